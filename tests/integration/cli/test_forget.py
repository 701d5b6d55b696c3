"""`vigil events forget`: what is ordered, without any service that carries it out."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from app.cli import events
from app.identity import fingerprint, text_digest
from app.messaging.forgetting import Orders
from tests.integration.cli.conftest import Declared, Vigil, parsed

pytestmark = pytest.mark.integration

TEXT = "zażółć\r\ngęślą\r\n"


@pytest.mark.parametrize("from_stdin", [False, True])
async def test_a_text_is_forgotten_as_the_file_has_it(
    vigil: Vigil, declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_stdin: bool
) -> None:
    monkeypatch.setattr(events, "WAIT_S", 0.0)
    file = tmp_path / "prompt.txt"
    file.write_bytes(TEXT.encode())
    given = ("-", "-f") if from_stdin else (str(file), "-f")
    done = await vigil("events", "forget", "--text", *given, "-j", stdin=TEXT if from_stdin else None)
    assert done.exit_code == 1  # Kept, and nobody is there who carries it out.
    told = parsed(done)
    orders = Orders()
    orders.jetstream = declared.jetstream
    order = await orders.find(UUID(told["forget_id"]))
    assert order.fingerprint == fingerprint(order.salt, text_digest(TEXT))


async def test_standard_input_leaves_nobody_to_ask(vigil: Vigil, declared: Declared) -> None:
    refused = await vigil("events", "forget", "--text", "-", stdin=TEXT)
    assert (refused.exit_code, "--force" in refused.output) == (2, True)
