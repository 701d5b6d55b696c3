"""What stands for a decision that did not come in time, where the policy says so: fail open, or closed."""

from __future__ import annotations

from typing import Final

from app.contracts import GuardAnswer, GuardRequest, Mode, OnTimeout, PiiReport, ThreatLevel, Verdict
from app.identity import new_request_id

PASSED: Final = "No decision came in time. The policy lets such texts pass: this one was not judged."
REFUSED: Final = "No decision came in time. The policy blocks such texts: this one was not judged."


class StandIn(GuardAnswer):
    """An answer that stands for a decision: nothing was judged."""


def answer_by(on_timeout: OnTimeout, request: GuardRequest, policy: str) -> StandIn | None:
    """Return the answer that a policy gives in place of a decision; None where the error is to be told.

    A policy of failing open lets the text pass as it came, with the personal data in it.
    """
    if on_timeout == "error":
        return None
    passes = on_timeout == "allow"
    return StandIn(
        request_id=request.request_id or new_request_id(),
        decision=Verdict.ALLOWED if passes else Verdict.BLOCKED,
        score=0 if passes else 100,
        threat_level=ThreatLevel.LOW if passes else ThreatLevel.HIGH,
        categories=[],
        explanations=[PASSED if passes else REFUSED],
        branches={},
        findings=[],
        boosts=[],
        pii=PiiReport(),
        sanitized_text=None,
        mode=request.mode if "mode" in request.model_fields_set else Mode.FULL,
        source=request.origin,
        policy=policy,
        latency_ms=0,
        model_version="",
    )


def failed_open(answer: GuardAnswer) -> bool:
    """Return whether a text passes that was not judged."""
    return isinstance(answer, StandIn) and answer.decision is Verdict.ALLOWED
