"""Vigil Guard Enterprise's contract: what its clients send to `/v1/guard/*`, and the answers that they read.

Fields are those of its clients: the Python SDK `vigil-guard`, the n8n node and LiteLLM's built-in hook. They have two
habits that an answer must respect: an empty or missing text of a SANITIZED answer makes them pass the original on,
and several let a text pass when the guard answers with an error. Hence `REDACTED` and `undecided`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from app.chat import ChatMessage, Role, conversation_length
from app.contracts import (
    BranchName,
    BranchResult,
    GuardAnswer,
    GuardRequest,
    Message,
    Mode,
    Problem,
    Source,
    ThreatLevel,
    Verdict,
    within_limit,
)
from app.gateways.judging import as_text, tool_call
from app.gateways.labels import labels
from app.gateways.undecided import failed_open

Origin = Literal["user_input", "system_prompt", "tool_input", "model_output", "tool_output"]
"""Where a text comes from, in the contract's words."""
SOURCES: Final[dict[Origin, Source]] = {
    "user_input": Source.INPUT,
    "system_prompt": Source.INPUT,
    "tool_input": Source.OUTPUT,
    "model_output": Source.OUTPUT,
    "tool_output": Source.TOOL,
}
"""What is forwarded to a tool was written by a model."""
REDACTED: Final = "[REDACTED]"
"""Stands for a sanitized text of which nothing is left: clients take an empty one for none and pass the original on."""
ATTACK_AT: Final = 50
"""Score from which the classifier says "attack", as in the policies."""
MOST_ITEMS: Final = 100
"""Most texts of one batch; the released SDK sends up to 24."""
_REQUEST_IDS: Final = UUID("5d8c2d0a-8f0e-5b63-9c1e-0f2f5a4f7d11")
"""Namespace of the request ids that stand for the clients' idempotency keys."""

Text = Annotated[str, StringConstraints(min_length=1)]


class _Body(Message):
    """Clients of other versions send further fields, which say nothing that is judged."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    mode: Mode = Mode.FULL
    metadata: Any = None
    """Whatever it is: what fits becomes labels, and no request is refused over it."""

    @field_validator("prompt", "output", "text", check_fields=False)
    @classmethod
    def usable(cls, text: str, info: ValidationInfo) -> str:
        text = within_limit(text, info)
        if text.isspace():
            raise PydanticCustomError("text_blank", "must contain at least one character that is not white space")
        return text


class InputBody(_Body):
    """`POST /v1/guard/input`"""

    prompt: Text

    def judged(self) -> tuple[str, Origin]:
        return self.prompt, "user_input"


class OutputBody(_Body):
    """`POST /v1/guard/output`"""

    output: Text
    original_prompt: Any = Field(default=None, alias="originalPrompt", repr=False)
    """Taken and not used: an answer is judged by itself."""

    def judged(self) -> tuple[str, Origin]:
        return self.output, "model_output"


class AnalyzeBody(_Body):
    """`POST /v1/guard/analyze`, and one item of `/v1/guard/batch`."""

    text: Text
    source: Origin = "user_input"

    def judged(self) -> tuple[str, Origin]:
        return self.text, self.source

    def call(self) -> ChatMessage | None:
        """Return the tool call whose arguments the text is; None where it is not, or holds none that can be read."""
        if self.source != "tool_input" or not self.text.lstrip().startswith(("{", "[")):
            return None
        call = tool_call(self.text)
        message = ChatMessage(role=Role.ASSISTANT, tool_calls=[call]) if call is not None else None
        return message if message is not None and message.says_something else None


class BatchBody(Message):
    """`POST /v1/guard/batch`"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    items: Annotated[list[AnalyzeBody], Field(min_length=1, max_length=MOST_ITEMS)]


def to_request(
    body: InputBody | OutputBody | AnalyzeBody, *, deadline_ms: int, text_limit: int, owner: str, idempotency_key: str
) -> GuardRequest:
    """Return the request that a body stands for.

    Args:
        body: one of the contract's.
        deadline_ms: how long its client will wait for the decision.
        text_limit: longest accepted text.
        owner: who the caller is; keys of two callers never stand for the same request.
        idempotency_key: what the client repeats with a retry; empty when it has none. LiteLLM's hook has none, and
            its retries are known by the call's id and text. Either stands for another request with another origin
            or mode: it is judged differently.
    """
    text, origin = body.judged()
    stored = labels(body.metadata)
    call_id = stored.get("litellm_call_id")
    if idempotency_key:
        request_id = uuid5(_REQUEST_IDS, "\0".join(("key", owner, origin, body.mode, idempotency_key)))
    elif isinstance(call_id, str) and call_id:
        request_id = uuid5(_REQUEST_IDS, "\0".join(("call", owner, call_id, origin, body.mode, text)))
    else:
        request_id = None
    called = body.call() if isinstance(body, AnalyzeBody) else None
    fits = called is not None and conversation_length([called]) <= text_limit
    return GuardRequest.model_validate(
        {
            **({"messages": [called]} if fits else {"text": text, "source": SOURCES[origin]}),
            "mode": body.mode,
            "request_id": request_id,
            "metadata": stored,
            "deadline_ms": deadline_ms,
        },
        context={"text_limit": text_limit},
    )


class _Answer(BaseModel):
    """Base of what is answered: camelCase, and without the fields that have no value."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class HeuristicsBranch(_Answer):
    score: float
    threat_level: ThreatLevel
    explanations: list[str]
    features: dict[str, list[str]]
    timing_ms: int


class SemanticBranch(_Answer):
    score: float
    attack_similarity: float
    safe_similarity: float
    timing_ms: int


class PiiBranch(_Answer):
    detected: bool
    entity_count: int
    categories: list[str]
    timing_ms: int


class LlmGuardBranch(_Answer):
    score: float
    verdict: Literal["ATTACK", "SAFE"]
    model_used: str
    timing_ms: int


class Branches(_Answer):
    heuristics: HeuristicsBranch | None = None
    semantic: SemanticBranch | None = None
    pii: PiiBranch | None = None
    llm_guard: LlmGuardBranch | None = None


class Decision(_Answer):
    """What every endpoint of the contract answers."""

    request_id: str
    decision: Literal["ALLOWED", "SANITIZED", "BLOCKED"]
    score: float
    threat_level: ThreatLevel
    confidence: float
    categories: list[str]
    branches: Branches
    latency_ms: int
    timestamp: datetime
    output_text: str | None = None
    """What to use in place of the text: the redacted one, or the message that stands for a blocked one."""
    sanitized_text: str | None = None
    redacted_text: str | None = None
    redaction_applied: bool = False
    redaction_match_count: int | None = None
    block_message: str | None = None
    decision_reason: str | None = None
    missing_branches: list[str] = Field(default_factory=list)
    decision_latency_ms: int | None = None
    arbiter_signal: Literal["ALLOW", "BLOCK"]
    rule_action: Literal["ALLOW", "BLOCK", "SANITIZE"]
    rule_set_name: str | None = None
    fail_open: bool = False
    """Whether the text passes unjudged, because the policy says so of texts for which no decision came in time."""

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


RULE_ACTIONS: Final[dict[str, Literal["ALLOW", "BLOCK", "SANITIZE"]]] = {
    "ALLOWED": "ALLOW",
    "SANITIZED": "SANITIZE",
    "BLOCKED": "BLOCK",
}


def to_decision(answer: GuardAnswer, *, decided_at: datetime, block_message: str) -> Decision:
    """Return a decision as the contract's clients read it.

    Args:
        answer: ALLOWED, SANITIZED or BLOCKED.
        decided_at: UTC.
        block_message: what the users of a client read in place of a blocked text.
    """
    verdict: Literal["ALLOWED", "SANITIZED", "BLOCKED"] = "BLOCKED"
    text, message = None, None
    if answer.decision is Verdict.SANITIZED:
        verdict, text = "SANITIZED", _text_to_use(answer) or REDACTED
    elif answer.decision is Verdict.ALLOWED:
        verdict = "ALLOWED"
    else:
        message = block_message
    healthy = {name: branch for name, branch in answer.branches.items() if not branch.degraded}
    missing = [_OUR_BRANCHES[name] for name in BranchName if name not in healthy]
    if answer.mode is Mode.FULL and (answer.pii.degraded or not answer.pii.scanned):
        missing.append("pii")
    latency_ms = round(answer.latency_ms)
    return Decision(
        request_id=str(answer.request_id),
        decision=verdict,
        score=answer.score,
        threat_level=answer.threat_level,
        confidence=round(sum(branch.confidence for branch in healthy.values()) / len(healthy), 3) if healthy else 0.0,
        categories=[category.upper() for category in answer.categories],
        branches=_branches(answer, healthy),
        latency_ms=latency_ms,
        timestamp=decided_at,
        output_text=text or message,
        sanitized_text=text,
        redacted_text=text,
        redaction_applied=text is not None,
        redaction_match_count=answer.pii.count if text is not None else None,
        block_message=message,
        decision_reason=" ".join(answer.explanations) or None,
        missing_branches=missing,
        decision_latency_ms=latency_ms,
        arbiter_signal="BLOCK" if verdict == "BLOCKED" else "ALLOW",
        rule_action=RULE_ACTIONS[verdict],
        rule_set_name=answer.policy,
        fail_open=failed_open(answer),
    )


def _text_to_use(answer: GuardAnswer) -> str | None:
    """Return the text, or the arguments of the one tool call that it was judged as."""
    if answer.messages is None:
        return answer.sanitized_text
    return next((as_text(call.value) for message in answer.sanitized_messages or () for call in message.calls), None)


_OUR_BRANCHES: Final = {
    BranchName.HEURISTICS: "heuristics",
    BranchName.SEMANTIC: "semantic",
    BranchName.CLASSIFIER: "llmGuard",
}


def _branches(answer: GuardAnswer, healthy: dict[BranchName, BranchResult]) -> Branches:
    heuristics = healthy.get(BranchName.HEURISTICS)
    semantic = healthy.get(BranchName.SEMANTIC)
    classifier = healthy.get(BranchName.CLASSIFIER)
    return Branches(
        heuristics=heuristics
        and HeuristicsBranch(
            score=heuristics.score,
            threat_level=_level(heuristics.score),
            explanations=heuristics.explanations,
            features={"signals": heuristics.signals},
            timing_ms=round(heuristics.latency_ms),
        ),
        semantic=semantic
        and SemanticBranch(
            score=semantic.score,
            attack_similarity=round(semantic.score / 100, 4),
            safe_similarity=round(1 - semantic.score / 100, 4),
            timing_ms=round(semantic.latency_ms),
        ),
        pii=PiiBranch(
            detected=answer.pii.count > 0,
            entity_count=answer.pii.count,
            categories=list(dict.fromkeys(entity.type for entity in answer.pii.entities)),
            timing_ms=round(answer.pii.latency_ms),
        )
        if answer.pii.scanned
        else None,
        llm_guard=classifier
        and LlmGuardBranch(
            score=classifier.score,
            verdict="ATTACK" if classifier.score >= ATTACK_AT else "SAFE",
            model_used=answer.model_version,
            timing_ms=round(classifier.latency_ms),
        ),
    )


def _level(score: float) -> ThreatLevel:
    """Return the level of one branch's score, by the contract's scale."""
    if score < 30:
        return ThreatLevel.LOW
    return ThreatLevel.MEDIUM if score < 65 else ThreatLevel.HIGH


class BatchError(_Answer):
    code: str
    message: str


class BatchResult(_Answer):
    index: int
    ok: bool
    response: Decision | None = None
    error: BatchError | None = None


class BatchDecision(_Answer):
    items: list[BatchResult]

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


def batch_error(problem: Problem) -> BatchError:
    return BatchError(code=_code(problem), message=problem.detail)


def undecided(problem: Problem, *, request_id: UUID, decided_at: datetime, block_message: str) -> Decision:
    """Return the BLOCKED answer that stands for an error, for clients that would let the text pass on one."""
    return Decision(
        request_id=str(problem.request_id or request_id),
        decision="BLOCKED",
        score=100.0,
        threat_level=ThreatLevel.HIGH,
        confidence=0.0,
        categories=[],
        branches=Branches(),
        latency_ms=0,
        timestamp=decided_at,
        output_text=block_message,
        block_message=block_message,
        decision_reason=f"The text was not judged: {problem.detail}",
        missing_branches=["heuristics", "semantic", "llmGuard", "pii"],
        arbiter_signal="BLOCK",
        rule_action="BLOCK",
    )


class ErrorDetail(_Answer):
    path: str
    message: str


class EnterpriseError(_Answer):
    """The contract's error."""

    error: str
    code: str
    details: list[ErrorDetail] | None = None
    request_id: str | None = None
    retry_after: int | None = None


def error_body(problem: Problem, retry_after_s: int | None) -> str:
    return EnterpriseError(
        error=problem.detail,
        code=_code(problem),
        details=[ErrorDetail(path=fault.field, message=fault.reason) for fault in problem.errors] or None,
        request_id=str(problem.request_id) if problem.request_id else None,
        retry_after=retry_after_s,
    ).model_dump_json(by_alias=True, exclude_none=True)


def _code(problem: Problem) -> str:
    return problem.type.rpartition(":")[2].replace("-", "_").upper()
