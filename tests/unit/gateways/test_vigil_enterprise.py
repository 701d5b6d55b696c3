"""Vigil Guard Enterprise's contract, with bodies as its clients write them and answers as they read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.contracts import BranchName, BranchResult, Mode, PiiReport, Source, Verdict
from app.errors import InvalidRequest, Overloaded
from app.gateways import vigil_enterprise
from app.gateways.vigil_enterprise import AnalyzeBody, BatchBody, InputBody, OutputBody
from app.problems import to_problem
from app.validation import parse
from tests.unit.gateways.answers import REQUEST_ID, answer, sanitized

NODE_INPUT = {"prompt": "What is the capital of France?", "mode": "full", "metadata": {"workflow": {"id": 7}}}
"""As the n8n node writes it."""
NODE_OUTPUT = {"output": "Paris.", "mode": "full", "originalPrompt": "What is the capital of France?", "metadata": []}
HOOK = {
    "text": "Paris.",
    "source": "model_output",
    "mode": "full",
    "metadata": {"model": "small", "user": "u" * 500, "litellm_call_id": "c1", "tags": ["a", 1]},
}
"""As LiteLLM's hook writes it."""
SDK = {
    "text": "Paris.",
    "source": "tool_output",
    "mode": "full",
    "agent": {"framework": "f", "sessionId": "s"},
    "tool": {"name": "search", "result": {"content": {"rows": []}}},
    "conversation": [{"role": "user", "content": "?"}],
}
"""As version 2 of the Python SDK writes it."""
AT = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
ALLOWED_FIELDS = {
    *("requestId", "decision", "score", "threatLevel", "confidence", "categories", "branches", "latencyMs"),
    *("timestamp", "sanitizedText", "outputText", "decisionReason", "missingBranches", "decisionLatencyMs"),
    *("arbiterSignal", "ruleAction", "ruleSetName", "redactionApplied", "redactedText", "redactionMatchCount"),
    *("failOpen", "blockMessage"),
}
"""What the SDK knows: in its strict mode any other field is an error."""


def request_of(body: InputBody | OutputBody | AnalyzeBody, key: str = "", owner: str = "default/") -> Any:
    return vigil_enterprise.to_request(body, deadline_ms=4000, text_limit=100_000, owner=owner, idempotency_key=key)


def parsed(model: type[Any], body: object) -> Any:
    return parse(model, json.dumps(body).encode(), text_limit=100_000)


def told(guard_answer: Any) -> dict[str, Any]:
    decision = vigil_enterprise.to_decision(guard_answer, decided_at=AT, block_message="Not let through.")
    read: dict[str, Any] = json.loads(decision.to_json())
    assert set(read) <= ALLOWED_FIELDS
    return read


def n8n_text(read: dict[str, Any], original: str) -> str:
    """Return the text that the n8n node goes on with, by the order in which it looks."""
    if read.get("outputText"):
        return str(read["outputText"])
    if read.get("redactedText"):
        return str(read["redactedText"])
    if read["decision"] == "BLOCKED":
        return str(read.get("blockMessage") or "blocked")
    return str(read.get("sanitizedText") or original) if read["decision"] == "SANITIZED" else original


@pytest.mark.parametrize(
    ("model", "body", "text", "source", "metadata"),
    [
        (InputBody, NODE_INPUT, "What is the capital of France?", Source.INPUT, {"workflow.id": 7}),
        (OutputBody, NODE_OUTPUT, "Paris.", Source.OUTPUT, {}),
        (AnalyzeBody, SDK, "Paris.", Source.TOOL, {}),
        (AnalyzeBody, {"text": "x", "source": "user_input"}, "x", Source.INPUT, {}),
        (AnalyzeBody, {"text": "x", "source": "tool_input"}, "x", Source.OUTPUT, {}),
        (AnalyzeBody, {"text": "x", "source": "system_prompt"}, "x", Source.INPUT, {}),
        (AnalyzeBody, {"text": "x"}, "x", Source.INPUT, {}),
        (InputBody, {"prompt": "x", "metadata": "{broken"}, "x", Source.INPUT, {}),
    ],
)
def test_a_body_becomes_a_request(
    model: type[Any], body: object, text: str, source: Source, metadata: dict[str, object]
) -> None:
    request = request_of(parsed(model, body))
    assert (request.text, request.source, request.mode, request.metadata) == (text, source, Mode.FULL, metadata)
    assert request.deadline_ms == 4000


def test_the_hooks_metadata_is_stored() -> None:
    request = request_of(parsed(AnalyzeBody, HOOK))
    assert request.metadata == {"model": "small", "user": "u" * 500, "litellm_call_id": "c1", "tags": "a,1"}
    assert request.source is Source.OUTPUT


def test_a_retry_is_the_same_request_and_nobody_elses() -> None:
    body = parsed(InputBody, NODE_INPUT)
    first = request_of(body, "idem_1").request_id
    assert first is not None
    assert request_of(body, "idem_1").request_id == first
    others = [request_of(body, "idem_2"), request_of(body, "idem_1", "other/k1"), request_of(body)]
    assert first not in [other.request_id for other in others]
    assert others[2].request_id is None
    call = request_of(parsed(AnalyzeBody, HOOK)).request_id
    assert call is not None
    assert request_of(parsed(AnalyzeBody, HOOK)).request_id == call
    assert request_of(parsed(AnalyzeBody, HOOK | {"text": "Rome."})).request_id != call
    assert request_of(parsed(AnalyzeBody, HOOK | {"source": "user_input"})).request_id != call


@pytest.mark.parametrize("key", ["idem_1", ""])
def test_every_origin_and_mode_of_a_text_is_a_request_of_its_own(key: str) -> None:
    text = '{"to": "anna@example.com"}'
    origins = ("user_input", "system_prompt", "tool_input", "model_output", "tool_output")
    bodies = [HOOK | {"text": text, "source": origin, "mode": mode} for origin in origins for mode in ("full", "fast")]
    ids = [request_of(parsed(AnalyzeBody, body), key).request_id for body in bodies]
    assert None not in ids
    assert len(set(ids)) == len(bodies)


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (InputBody, {}, "prompt"),
        (InputBody, {"prompt": ""}, "prompt"),
        (InputBody, {"prompt": " \n"}, "prompt"),
        (InputBody, {"prompt": 5}, "prompt"),
        (InputBody, {"prompt": "x" * 100_001}, "prompt"),
        (InputBody, {"prompt": "x", "mode": "slow"}, "mode"),
        (OutputBody, {"prompt": "x"}, "output"),
        (AnalyzeBody, {"text": "x", "source": "nowhere"}, "source"),
        (BatchBody, {"items": []}, "items"),
        (BatchBody, {"items": [{"text": "x"}, {"text": ""}]}, "items.1.text"),
        (BatchBody, {"items": [{"text": "x"}] * 101}, "items"),
    ],
)
def test_bad_input_names_the_field(model: type[Any], body: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(model, body)
    assert [name for name, _ in caught.value.faults] == [field]


def test_an_allowed_text_is_not_repeated() -> None:
    read = told(answer())
    assert read["decision"] == "ALLOWED"
    assert (read["ruleAction"], read["arbiterSignal"], read["failOpen"]) == ("ALLOW", "ALLOW", False)
    assert not {"outputText", "sanitizedText", "redactedText", "blockMessage"} & set(read)
    assert n8n_text(read, "original") == "original"


def test_a_sanitized_text_stands_wherever_a_client_looks() -> None:
    read = told(sanitized("Mail <EMAIL_ADDRESS_1>", ("EMAIL_ADDRESS", 5, 20)))
    assert read["sanitizedText"] == read["outputText"] == read["redactedText"] == "Mail <EMAIL_ADDRESS_1>"
    assert (read["redactionApplied"], read["redactionMatchCount"]) == (True, 1)
    assert read["categories"] == ["PERSONAL_DATA"]
    assert n8n_text(read, "Mail anna@example.com") == "Mail <EMAIL_ADDRESS_1>"


@pytest.mark.parametrize("left", ["", None])
def test_a_sanitized_text_of_which_nothing_is_left_is_not_empty(left: str | None) -> None:
    read = told(sanitized("x").model_copy(update={"sanitized_text": left}))
    assert read["sanitizedText"] == "[REDACTED]"
    assert n8n_text(read, "anna@example.com") == "[REDACTED]"


def test_a_block_says_so_to_people_and_never_why_in_their_words() -> None:
    read = told(answer(Verdict.BLOCKED, explanations=["The text asks for secrets.", "Twice."]))
    assert read["blockMessage"] == read["outputText"] == "Not let through."
    assert read["decisionReason"] == "The text asks for secrets. Twice."
    assert (read["ruleAction"], read["arbiterSignal"]) == ("BLOCK", "BLOCK")
    assert n8n_text(read, "original") == "Not let through."


def test_an_expired_decision_is_a_block() -> None:
    assert told(answer(Verdict.EXPIRED))["decision"] == "BLOCKED"


def test_branches_are_told_under_the_contracts_names() -> None:
    branches = told(answer())["branches"]
    assert branches["heuristics"] == {
        "score": 97.6,
        "threatLevel": "HIGH",
        "explanations": [],
        "features": {"signals": ["override"]},
        "timingMs": 1,
    }
    assert branches["semantic"] == {
        "score": 25.0,
        "attackSimilarity": 0.25,
        "safeSimilarity": 0.75,
        "timingMs": 11,
    }
    assert branches["llmGuard"] == {"score": 4.0, "verdict": "SAFE", "modelUsed": "m1", "timingMs": 11}
    assert branches["pii"] == {"detected": False, "entityCount": 0, "categories": [], "timingMs": 0}


def test_what_was_not_looked_at_is_missing() -> None:
    degraded = {
        **answer().branches,
        BranchName.CLASSIFIER: BranchResult(score=0, confidence=0, degraded=True),
    }
    read = told(answer(branches=degraded, pii=PiiReport(scanned=False, degraded=True)))
    assert read["missingBranches"] == ["llmGuard", "pii"]
    assert set(read["branches"]) == {"heuristics", "semantic"}
    assert read["confidence"] == 0.75
    assert told(answer(mode=Mode.FAST, pii=PiiReport()))["missingBranches"] == []


def test_an_error_has_the_contracts_shape() -> None:
    body = json.loads(vigil_enterprise.error_body(to_problem(InvalidRequest("is missing", field="prompt")), None))
    assert body == {
        "error": "is missing",
        "code": "INVALID_REQUEST",
        "details": [{"path": "prompt", "message": "is missing"}],
    }
    late = json.loads(vigil_enterprise.error_body(to_problem(Overloaded(), request_id=REQUEST_ID), 7))
    assert (late["code"], late["retryAfter"], late["requestId"]) == ("OVERLOADED", 7, str(REQUEST_ID))


def test_what_could_not_be_judged_can_be_told_as_a_block() -> None:
    decision = vigil_enterprise.undecided(
        to_problem(Overloaded()), request_id=REQUEST_ID, decided_at=AT, block_message="Try again."
    )
    read = json.loads(decision.to_json())
    assert set(read) <= ALLOWED_FIELDS
    assert (read["decision"], read["failOpen"], read["requestId"]) == ("BLOCKED", False, str(REQUEST_ID))
    assert read["missingBranches"] == ["heuristics", "semantic", "llmGuard", "pii"]
    assert n8n_text(read, "original") == "Try again."


def test_what_is_forwarded_to_a_tool_is_judged_as_its_arguments() -> None:
    body = parsed(AnalyzeBody, {"text": '{"to": "anna@example.com", "n": 1}', "source": "tool_input"})
    request = request_of(body)
    assert (request.whole_text, request.origin) == ("\n\nanna@example.com", Source.OUTPUT)
    (message,) = request.messages
    redacted = [message.with_arguments({"tool_calls.0.function.arguments": ["<EMAIL_ADDRESS_1>"]})]
    read = told(answer(Verdict.SANITIZED, messages=[], sanitized_messages=redacted))
    assert read["sanitizedText"] == '{"to": "<EMAIL_ADDRESS_1>", "n": 1}'


@pytest.mark.parametrize("text", ["{}", "[1]", "plain", "[" * 40 + '"x"' + "]" * 40])
def test_what_holds_no_arguments_is_judged_as_a_text(text: str) -> None:
    request = request_of(parsed(AnalyzeBody, {"text": text, "source": "tool_input"}))
    assert (request.text, request.source) == (text, Source.OUTPUT)
