"""What the tools hand to a model: the client's own answers, and failures that repeat no text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from app.cli import mcp as command
from app.cli.commands import vigil
from app.client import AsyncClient, Patience
from app.mcp.tools import TOOLS, Toolbox, ToolFailure, call

ROOT = Path(__file__).parents[3]
TEXT = "kappa-omega-secret"
ID = "11111111-1111-4111-8111-111111111111"
Handler = Callable[[httpx2.Request], httpx2.Response]


async def use(name: str, arguments: dict[str, Any], handler: Handler, policy: str | None = None) -> BaseModel:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    patience = Patience(tries=1)
    async with AsyncClient("http://guard", on_failure="raise", patience=patience, http=http) as client:
        return await call(Toolbox(client, policy), name, arguments)


def answering(seen: list[dict[str, Any]] | None = None, **fields: object) -> Handler:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(json.loads(request.content))
        return httpx2.Response(200, json={"request_id": ID, "decision": "ALLOWED"} | fields)

    return answer


async def test_text_is_guarded_as_a_tools_output_unless_told_otherwise() -> None:
    seen: list[dict[str, Any]] = []
    judged = await use("guard", {"text": TEXT}, answering(seen, decision="BLOCKED", score=91), policy="strict")
    assert judged.model_dump()["decision"] == "BLOCKED"
    assert {"source": "tool", "mode": "full", "policy": "strict"}.items() <= seen[0].items()


async def test_a_redacted_text_comes_with_its_map() -> None:
    pii = {"scanned": True, "count": 1, "entities": [{"type": "PERSON", "start": 0, "end": 4, "score": 1}]}
    handler = answering(decision="SANITIZED", sanitized_text="<PERSON_1>", restore_map="v1.x", pii=pii)
    redacted = (await use("redact", {"text": "Anna"}, handler)).model_dump()
    assert redacted.pop("request_id") == ID
    assert redacted.pop("restore_map") == "v1.x"
    assert redacted == {"blocked": False, "text": "<PERSON_1>", "found": 1, "types": ["PERSON"], "kept": []}


async def test_what_the_policy_keeps_is_not_called_redacted() -> None:
    """As under `redact: false`, or a kind with the action `keep`."""
    pii = {"scanned": True, "count": 1, "entities": [{"type": "PERSON", "start": 0, "end": 4, "score": 1}]}
    finding = {"detector": "pii", "rule": "PERSON", "start": 0, "end": 4, "score": 100, "action": "none"}
    left = {"pii": pii, "findings": [finding], "policy": "trusting"}
    with pytest.raises(ToolFailure, match=r"policy trusting leaves .*\(PERSON\)") as raised:
        await use("redact", {"text": "Anna"}, answering(**left))
    assert "Anna" not in str(raised.value)
    both = left | {
        "findings": [finding, finding | {"rule": "EMAIL_ADDRESS", "action": "redact"}],
        "sanitized_text": "Anna <EMAIL_ADDRESS_1>",
    }
    redacted = await use("redact", {"text": "Anna a@b.pl"}, answering(decision="SANITIZED", **both))
    assert redacted.model_dump()["kept"] == ["PERSON"]


async def test_a_text_that_was_not_searched_is_not_called_redacted() -> None:
    for pii in ({"scanned": False}, {"scanned": True, "degraded": True}):
        with pytest.raises(ToolFailure, match="may still hold"):
            await use("redact", {"text": TEXT}, answering(pii=pii))


async def test_a_blocked_text_is_not_handed_back() -> None:
    redacted = await use("redact", {"text": TEXT}, answering(decision="BLOCKED"))
    assert redacted.model_dump()["blocked"] is True
    assert redacted.model_dump()["text"] is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("guard", {"text": [TEXT]}),
        ("guard", {"text": "a", "source": TEXT}),
        ("guard", {"text": "a", TEXT: 1}),
        ("restore", {"text": TEXT}),
        (TEXT, {}),
    ],
)
async def test_what_does_not_fit_is_named_and_never_quoted(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolFailure) as raised:
        await use(name, arguments, answering())
    assert TEXT not in str(raised.value)


async def test_a_guard_that_gives_no_answer_is_a_failure_of_the_tool() -> None:
    for spec in TOOLS:
        with pytest.raises(ToolFailure, match="Unavailable"):
            await use(spec.name, {"text": TEXT} | ({"restore_map": "v1"} if spec.name == "restore" else {}),
                      lambda _: httpx2.Response(503))  # fmt: skip


def test_without_the_package_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    result = CliRunner().invoke(vigil, ["mcp"])
    assert result.exit_code == 2
    # By its own name: what PyPI has under this distribution's is another product's.
    (extra,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["mcp"]
    assert f"pip install '{extra}'" in result.output


def test_a_key_that_cannot_be_used_is_refused_and_not_shown() -> None:
    result = CliRunner().invoke(vigil, ["mcp"], env={"VIGIL_API_KEY": f"{TEXT} {TEXT}"})
    assert result.exit_code == 2
    assert TEXT not in result.output
