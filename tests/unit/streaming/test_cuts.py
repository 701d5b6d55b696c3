"""The count of what streams leak is true: a leak is seen, and reading each window once changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from app.pii.engine import PiiEngine
from app.pii.redaction import Span
from app.redaction import REPLACE_ALL, RedactionTable
from tests.benchmarks.cuts import Leaks, ReadOnce, leaks_of, streamed
from tests.unit.streaming.answers import LONG_EVERY, Answer, answers


class Blinking:
    """Finds nothing in a text that ends in the middle of a mail's address."""

    def __init__(self, engine: PiiEngine) -> None:
        self._engine = engine

    def find(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        table: RedactionTable = REPLACE_ALL,
        *,
        patterns_only: bool = False,
    ) -> tuple[list[Span], str]:
        if "@" in text and not text.endswith("."):
            return [], "en"
        return self._engine.find(text, language, allow_list, table, patterns_only=patterns_only)


MAIL = "It is stored. Write to anna.nowak@example.com"
ANSWER = Answer(MAIL + ". " + "The harbour opens at dawn. " * 8, ((23, len(MAIL)),))


def test_a_leak_is_counted_with_every_place_that_shows_it(engine: PiiEngine) -> None:
    places = len(MAIL) - 23 + 1
    assert leaks_of(ANSWER, engine, engine) == Leaks(1, 1 + 2 * places, 1, 0, 1, 0)
    leaky = leaks_of(ANSWER, Blinking(engine), engine)
    assert leaky.leaked > 0
    assert leaky.longest_part == len("anna.nowak@example.com")
    assert leaky.unlike_one_piece >= leaky.leaked


def test_reading_each_window_once_shows_what_reading_all_of_them_shows(engine: PiiEngine) -> None:
    for answer in [*answers(2, seed=9), ANSWER]:
        plain = list(streamed(answer, engine, engine.entities))
        assert list(streamed(answer, ReadOnce(engine), engine.entities)) == plain


def test_one_answer_in_ten_is_longer_than_what_a_stream_keeps_of_it() -> None:
    lengths = [len(answer.text) for answer in answers(2 * LONG_EVERY)]
    assert sum(length > 500 for length in lengths) == 2
