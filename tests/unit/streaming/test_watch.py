"""Shows that a secret is found in an answer that comes in small pieces, however long it is drawn out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.contracts import MAX_CANARY_LENGTH, Source
from app.detection.leaks import CANARY_RULE, Secrets
from app.detection.normalise import PreparedText
from app.streaming.watch import StreamWatch

CANARY = ("kappa-7319-omega-4471-" * 12)[:MAX_CANARY_LENGTH]


class NoRules:
    def suspicion(self, prepared: PreparedText, source: Source) -> float:
        return 0.0


@pytest.mark.parametrize(
    "form", ["{:c} ".format, "{:02x} ".format, "%{:02x}".format, "&#{};".format, "\\u{:04x}".format, "{:08b} ".format]
)
def test_the_longest_canary_is_found_in_pieces(form: Callable[[int], str]) -> None:
    assert is_found(CANARY, form)


@pytest.mark.parametrize("canary", [("zażółć-7319-gęślą-4471-" * 12)[:MAX_CANARY_LENGTH], "鳳凰山水七三一九" * 12])
@pytest.mark.parametrize("form", ["{:02x} ".format, "\\x{:02x}".format, "{:08b} ".format])
def test_a_canary_is_found_in_pieces_whose_letters_take_several_bytes(form: Callable[[int], str], canary: str) -> None:
    assert is_found(canary, form)


def is_found(canary: str, form: Callable[[int], str]) -> bool:
    text = f"Here it is: {''.join(map(form, canary.encode()))} and that is all."
    watch = StreamWatch(NoRules(), Secrets((canary,)))
    found = [watch.feed(text[at : at + 7]).leak for at in range(0, len(text), 7)]
    return CANARY_RULE in [*found, watch.finish().leak]
