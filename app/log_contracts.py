"""Messages and HTTP schemas around the event log: entries, questions and answers, feedback, orders to forget."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.contracts import (
    DEFAULT_TENANT,
    Category,
    DecisionRecord,
    KeyId,
    Message,
    Mode,
    PolicyName,
    RecordedTime,
    Source,
    TenantName,
    ThreatLevel,
    UInt32,
    Verdict,
    within_limit,
)

MOST_AHEAD: Final = timedelta(days=1)
"""How far ahead of the clock an entry's time may be. ClickHouse counts the time until which it keeps a row up to 2106:
a row of a later year would be dropped at once, and one of next year long after its day."""
TIMES: Final = ("received_at", "decided_at", "given_at")
"""An entry's times."""
MOST_EVENTS: Final = 1000
"""Most rows of one page."""
MOST_BUCKETS: Final = 2000
"""Most points of one time series."""
MOST_SERIES: Final = 50
"""Series of one answer: the largest of a grouping with more values."""

TextDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PiiType = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
"""Where a list goes on; made by the page before, and to be handed back as it is."""


class TextRecord(Message):
    """`vigil.logs.text`: the full text of a request, where `privacy.store` is `full`."""

    request_id: UUID
    tenant: TenantName = DEFAULT_TENANT
    key_id: KeyId = ""
    received_at: RecordedTime
    text_digest: str
    text: str = Field(repr=False)


class FeedbackVerdict(StrEnum):
    """What a caller says of a decision."""

    FALSE_POSITIVE = "false_positive"
    FALSE_NEGATIVE = "false_negative"
    CORRECT = "correct"


class FeedbackRequest(Message):
    """What `POST /guard/{request_id}/feedback` accepts."""

    verdict: FeedbackVerdict = Field(description="Whether the decision was right.")
    expected: Verdict | None = Field(default=None, description="What it should have been.")
    category: Category | None = Field(default=None, description="What the text attempts, where it is an attack.")
    comment: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        default=None, repr=False, description="For people; stored as it is, so without personal data."
    )
    text: str | None = Field(
        default=None,
        repr=False,
        description="The text of the request, given up for training; stored as it is. It must be the same text.",
    )

    @field_validator("expected")
    @classmethod
    def expected_is_a_judgement(cls, expected: Verdict | None) -> Verdict | None:
        if expected is Verdict.EXPIRED:
            raise PydanticCustomError("not_a_judgement", "must be ALLOWED, SANITIZED or BLOCKED")
        return expected

    @field_validator("text")
    @classmethod
    def text_fits(cls, text: str | None, info: ValidationInfo) -> str | None:
        return text if text is None else within_limit(text, info)


class FeedbackRecord(Message):
    """`vigil.logs.feedback`: one report, with what the export needs of the decision it is about."""

    feedback_id: UUID
    request_id: UUID
    tenant: TenantName = DEFAULT_TENANT
    key_id: KeyId = ""
    """Who reports."""
    request_key_id: KeyId = ""
    """Who made the request."""
    given_at: RecordedTime
    verdict: FeedbackVerdict
    expected: Verdict | None = None
    category: Category | None = None
    comment: str | None = Field(default=None, repr=False)
    text: str | None = Field(default=None, repr=False)
    decision: Verdict
    score: Annotated[int, Field(ge=0, le=100)]
    mode: Mode
    source: Source
    policy: str
    language: str | None = None
    text_digest: str


class FeedbackReceipt(Message):
    """The report is kept; a later one of the same key takes its place."""

    feedback_id: UUID
    request_id: UUID


LogEntry = DecisionRecord | TextRecord | FeedbackRecord
"""What the event log stores."""


def time_ahead(entry: LogEntry, at: datetime) -> str | None:
    """Return the name of an entry's first time that is more than MOST_AHEAD after `at`; None without one."""
    latest = at + MOST_AHEAD
    return next((name for name in TIMES if getattr(entry, name, at) > latest), None)


class EventFilter(Message):
    """Which events are meant; what is None or empty is no condition."""

    decision: list[Verdict] = Field(default_factory=list, max_length=4)
    category: list[Category] = Field(default_factory=list, max_length=len(Category))
    """At least one of them."""
    source: Source | None = None
    mode: Mode | None = None
    policy: PolicyName | None = None
    tenant: TenantName | None = None
    key_id: KeyId | None = None
    since: RecordedTime | None = None
    """Received at this time or later."""
    before: RecordedTime | None = None
    """Received earlier than this."""
    min_score: Annotated[int, Field(ge=0, le=100)] | None = None
    max_score: Annotated[int, Field(ge=0, le=100)] | None = None
    pii_type: PiiType | None = None
    """A kind of personal data among the entities that the answer lists."""
    has_feedback: bool | None = None


class EventQuery(EventFilter):
    """`vigil.api.events`: a page of events, newest first."""

    limit: Annotated[int, Field(ge=1, le=MOST_EVENTS)] = 100
    cursor: Cursor | None = None


class EventSummary(Message):
    """One event in a list: never a text."""

    request_id: UUID
    received_at: datetime
    decision: Verdict
    score: int
    threat_level: ThreatLevel
    mode: Mode
    source: Source
    policy: str
    categories: list[Category]
    pii_types: list[str]
    pii_count: UInt32
    latency_ms: float
    text_length: UInt32
    text_digest: str
    tenant: str
    key_id: str
    model_version: str
    feedback: FeedbackVerdict | None = None
    """The latest report, where there is one."""


class EventPage(Message):
    """A part of a list of events, newest first."""

    events: list[EventSummary]
    next_cursor: Cursor | None = None
    """What continues the list; None at its end."""


class EventQuestion(Message):
    """`vigil.api.event`: everything about one request."""

    request_id: UUID
    tenant: TenantName | None = None
    """Only where it is this tenant's."""
    with_text: bool = False
    """Whether the full text is wanted too, where one is stored."""


class EventDetail(Message):
    record: DecisionRecord
    feedback: list[FeedbackRecord]
    text: str | None = Field(default=None, repr=False)
    """The full text; None where it was not asked for or is not stored (any more)."""


class StatsGroup(StrEnum):
    """What counts are told apart by."""

    DECISION = "decision"
    CATEGORY = "category"
    SOURCE = "source"
    MODE = "mode"
    POLICY = "policy"
    TENANT = "tenant"
    PII_TYPE = "pii_type"


class StatsQuery(EventFilter):
    """`vigil.api.stats`: counts over time."""

    by: StatsGroup = StatsGroup.DECISION
    bucket_s: Annotated[int, Field(ge=1, le=31 * 86_400)] | None = None
    """Width of a point in seconds; chosen to give about 60 points at most, however long the period, when absent."""


class Percentiles(Message):
    p50: float
    p90: float
    p95: float
    p99: float


class Series(Message):
    name: str
    total: int
    counts: list[int]
    """One for each of the answer's `starts`."""


class Stats(Message):
    """Counts of events from `since` to `before`, and how long they took."""

    since: datetime
    before: datetime
    bucket_s: int
    by: StatsGroup
    total: int
    """Events, however many groups each belongs to."""
    latency_ms: Percentiles | None
    """Of judged requests, from reception to decision; None without any."""
    starts: list[datetime]
    """Where each point begins, without gaps."""
    series: list[Series]
    """Largest first, at most MOST_SERIES."""


class FeedbackQuery(Message):
    """`vigil.api.feedback`: a page of reports, newest first."""

    verdict: FeedbackVerdict | None = None
    tenant: TenantName | None = None
    since: RecordedTime | None = None
    before: RecordedTime | None = None
    with_text: bool = False
    """Only reports that carry a text, and with it; otherwise texts are left out."""
    limit: Annotated[int, Field(ge=1, le=MOST_EVENTS)] = 100
    cursor: Cursor | None = None


class FeedbackPage(Message):
    reports: list[FeedbackRecord]
    next_cursor: Cursor | None = None


Question = EventQuery | EventQuestion | StatsQuery | FeedbackQuery
Answer = EventPage | EventDetail | Stats | FeedbackPage


class ForgetKind(StrEnum):
    REQUEST = "request"
    KEY = "key"
    TENANT = "tenant"
    TEXT = "text"


class ForgetRequest(Message):
    """What `POST /admin/forget` accepts: exactly one of these."""

    request_id: UUID | None = None
    key_id: Annotated[str, StringConstraints(min_length=1), KeyId] | None = None
    tenant: TenantName | None = None
    text_hash: TextDigest | None = Field(default=None, description="The digest that the event log holds of a text.")
    text: str | None = Field(default=None, repr=False, description="The text itself: hashed at once, never stored.")

    @field_validator("text")
    @classmethod
    def text_fits(cls, text: str | None, info: ValidationInfo) -> str | None:
        return text if text is None else within_limit(text, info)

    @model_validator(mode="after")
    def exactly_one(self) -> Self:
        if len([name for name in type(self).model_fields if getattr(self, name) is not None]) != 1:
            raise PydanticCustomError(
                "not_exactly_one", "needs exactly one of request_id, key_id, tenant, text_hash and text"
            )
        return self


class ForgetState(StrEnum):
    PENDING = "pending"
    """Kept, and carried out as soon as a service has the event log open."""
    DONE = "done"


class Removed(Message):
    """What was removed where."""

    events: int = 0
    """Rows of the event log; a repeated insert counts twice."""
    texts: int = 0
    """Full texts."""
    feedback: int = 0
    decisions: int = 0
    """Decisions kept for repeated request ids."""
    queued: int = 0
    """Messages of the work queue: their callers get no decision."""
    dead_letters: int = 0

    def plus(self, other: Removed) -> Removed:
        mine, theirs = self.model_dump(), other.model_dump()
        return Removed(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def total(self) -> int:
        return sum(self.model_dump().values())


class ForgetOrder(Message):
    """What is to be forgotten, as it is kept: a fingerprint in place of what it is made of."""

    forget_id: UUID
    kind: ForgetKind
    salt: str
    """32 hexadecimal digits."""
    fingerprint: str
    """See `identity.fingerprint`."""
    asked_at: datetime
    """Only what was received until then is meant."""
    state: ForgetState = ForgetState.PENDING
    looks: int = 0
    """How often everything has been searched."""
    quiet: int = 0
    """How many of the latest looks found nothing more."""
    looked_at: datetime | None = None
    removed: Removed = Removed()
    worker: str = ""
    """Who carries it out just now."""
    leased_until: datetime | None = None


class ForgetReport(Message):
    """How far an order is."""

    forget_id: UUID
    kind: ForgetKind
    state: ForgetState
    asked_at: datetime
    removed: Removed

    @classmethod
    def of(cls, order: ForgetOrder) -> ForgetReport:
        return cls(**order.model_dump(include=set(cls.model_fields)))
