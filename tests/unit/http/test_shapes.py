"""Each path refuses in the shape that its clients read."""

from __future__ import annotations

import json

import pytest

from app.errors import InvalidRequest, Overloaded
from app.http.shapes import Shapes
from app.problems import MEDIA_TYPE, to_problem
from app.settings import GatewaySettings

BAD = to_problem(InvalidRequest("is required", field="text"))
BUSY = to_problem(Overloaded())


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/guard/input", "error"),
        ("/v1/guard/batch", "error"),
        ("/v2/guard", "message"),
        ("/beta/litellm_basic_guardrail_api", "blocked_reason"),
        ("/presidio/analyze", "error"),
        ("/presidio/nowhere", "error"),
    ],
)
def test_other_contracts_have_their_own(path: str, told: str) -> None:
    refusal = Shapes(GatewaySettings()).refusal(path, BAD)
    assert (refusal.status, refusal.media_type) == (422, "application/json")
    assert json.loads(refusal.body)[told] == "is required"


@pytest.mark.parametrize("path", ["/guard", "/v1", "/presidio", "/metrics", "/"])
def test_everything_else_is_a_problem(path: str) -> None:
    refusal = Shapes(GatewaySettings()).refusal(path, BAD)
    assert (refusal.status, refusal.media_type) == (422, MEDIA_TYPE)
    assert json.loads(refusal.body)["errors"] == [{"field": "text", "reason": "is required"}]


@pytest.mark.parametrize(
    ("path", "undecided", "status"),
    [
        ("/v1/guard/analyze", "block", 200),
        ("/v1/guard/analyze", "error", 503),
        ("/v1/guard/batch", "block", 503),
        ("/v2/guard", "block", 503),
        ("/beta/litellm_basic_guardrail_api", "block", 503),
        ("/guard", "block", 503),
    ],
)
def test_a_failure_of_ours_blocks_where_clients_would_let_the_text_pass(path: str, undecided: str, status: int) -> None:
    settings = GatewaySettings.model_validate({"undecided": undecided, "undecided_message": "Later."})
    refusal = Shapes(settings).refusal(path, BUSY, 3)
    assert refusal.status == status
    if status == 200:
        told = json.loads(refusal.body)
        assert (told["decision"], told["blockMessage"]) == ("BLOCKED", "Later.")
