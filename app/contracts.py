"""Messages and HTTP schemas: the only types that cross rooms.

All offsets are Unicode code points of the original text, end exclusive. All scores are 0 to 100
unless a docstring says otherwise; confidences are 0 to 1; times are UTC.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from app.bounds import at_most, check_count
from app.chat import (
    MAX_MESSAGES,
    ChatMessage,
    Content,
    Role,
    conversation_identity,
    conversation_length,
    conversation_text,
    utterances,
)
from app.tool_arguments import MOST_TEXTS

DEFAULT_TEXT_LIMIT: Final = 100_000
"""Longest accepted text in code points; the effective limit is a setting passed as validation context."""
MAX_RESTORE_MAP_LENGTH: Final = 400_000
"""Longest restore map beside a text. One of 25,000 Chinese names, as many as fit a text, takes 361,000 characters, one
of 5,000 addresses of mail 98,000; a message of the queue has room for it beside an ordinary text of any length."""
MAX_LISTED_SPANS: Final = 500
"""Most spans one answer lists: 500 of about 80 bytes keep every message under a max_payload of 1 MB."""


class Mode(StrEnum):
    FAST = "fast"
    FULL = "full"


class Source(StrEnum):
    INPUT = "input"
    OUTPUT = "output"
    TOOL = "tool"


SOURCE_OF: Final = {
    Role.SYSTEM: Source.INPUT,
    Role.DEVELOPER: Source.INPUT,
    Role.USER: Source.INPUT,
    Role.ASSISTANT: Source.OUTPUT,
    Role.TOOL: Source.TOOL,
    Role.FUNCTION: Source.TOOL,
}
"""As what the message of each role is judged; the system's is not."""


class Verdict(StrEnum):
    ALLOWED = "ALLOWED"
    SANITIZED = "SANITIZED"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    """Not judged, since nobody could be waiting any more; recorded, and never the answer to a request."""


class Judge(StrEnum):
    """Which messages of a chat are judged for attacks; personal data is looked for in all."""

    ALL = "all"
    LAST = "last"
    """Those since the assistant last spoke; where it spoke last, that answer."""


class ThreatLevel(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class BranchName(StrEnum):
    HEURISTICS = "heuristics"
    SEMANTIC = "semantic"
    CLASSIFIER = "classifier"


ALL_BRANCHES: Final = frozenset(BranchName)


class Category(StrEnum):
    """What a text was found to attempt; OWASP names the risk of each."""

    PROMPT_INJECTION = "prompt_injection"
    JAILBREAK = "jailbreak"
    SYSTEM_PROMPT_LEAK = "system_prompt_leak"
    INDIRECT_INJECTION = "indirect_injection"
    DATA_EXFILTRATION = "data_exfiltration"
    OBFUSCATION = "obfuscation"
    CODE_PAYLOAD = "code_payload"
    HARMFUL_CONTENT = "harmful_content"
    PERSONAL_DATA = "personal_data"


OWASP: Final = {
    Category.PROMPT_INJECTION: "LLM01:2025 Prompt Injection",
    Category.JAILBREAK: "LLM01:2025 Prompt Injection",
    Category.SYSTEM_PROMPT_LEAK: "LLM07:2025 System Prompt Leakage",
    Category.INDIRECT_INJECTION: "LLM01:2025 Prompt Injection",
    Category.DATA_EXFILTRATION: "LLM02:2025 Sensitive Information Disclosure",
    Category.OBFUSCATION: "LLM01:2025 Prompt Injection",
    Category.CODE_PAYLOAD: "LLM05:2025 Improper Output Handling",
    Category.PERSONAL_DATA: "LLM02:2025 Sensitive Information Disclosure",
}
"""The risk of OWASP's Top 10 for LLM Applications (2025) that a category belongs to; harmful content has none."""


class Action(StrEnum):
    NONE = "none"
    REDACT = "redact"
    BLOCK = "block"


UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Offsets and lengths, as the event log stores them: what it cannot store is refused where it comes in."""
RecordedTime = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2200, 1, 1, tzinfo=UTC))]
"""A time the event log can store."""


class Message(BaseModel):
    """Base of everything that travels: frozen, and closed to fields nobody declared.

    A later version adds none but optional fields to what the service writes for itself. Whoever only reads that says so
    (`extra`) and goes on without them; a stage's job is handed back (`validation.parse_job`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


Flag = Annotated[bool, Strict()]
"""What a caller says is so: `true` or `false`, and nothing that only looks like it. "yes" must start no dry run."""
Integer = Annotated[int, Strict()]
"""A number without a fraction that a caller gives in JSON; "500" and `true` only look like one."""
Number = Annotated[float, Strict()]
"""The same, with or without a fraction."""
OnTimeout = Literal["allow", "block", "error"]
"""What stands for a decision that did not come in time."""
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
MetadataValue = Annotated[str, StringConstraints(max_length=512)] | int | float | bool | None
MAX_LABELS: Final = 32
SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**64 - 1
"""Whole numbers of labels fit 64 bits, signed or not, as those of most readers of JSON."""


def keeps_its_value(value: MetadataValue) -> MetadataValue:
    """Return a label's value that JSON can carry: it has no NaN and no Infinity, which would be kept as null."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("not_finite", "must be a finite number")
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise PydanticCustomError("integer_too_large", "must be a whole number of at most 64 bits")
    return value


Label = Annotated[MetadataValue, AfterValidator(keeps_its_value)]
"""A value as a caller may give it."""
Metadata = Annotated[dict[MetadataKey, Label], Field(max_length=MAX_LABELS), at_most(MAX_LABELS)]
MIN_CANARY_LENGTH: Final = 8
MAX_CANARY_LENGTH: Final = 256
MAX_CANARIES: Final = 16
"""Most canaries of one request."""
Canary = Annotated[str, StringConstraints(min_length=MIN_CANARY_LENGTH, max_length=MAX_CANARY_LENGTH)]
DEFAULT_TENANT: Final = "default"
"""The tenant of callers without a key, and of keys that name none."""
TENANT_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
KEY_ID_PATTERN: Final = r"[A-Za-z0-9_-]{1,32}"
TenantName = Annotated[str, StringConstraints(pattern=f"^{TENANT_PATTERN}$")]
KeyId = Annotated[str, StringConstraints(pattern=f"^(?:{KEY_ID_PATTERN})?$")]
"""Name of an access key, which is no secret; empty for a caller without one."""
MIN_RATE_PER_S: Final = 1e-9
"""Lowest limit of requests per second that can be set: one in 31 years. With far lower ones the time to wait is more
than a number holds."""
MAX_RATE_PER_S: Final = 1e6
"""Highest limit of requests per second that can be set."""
MAX_AMOUNT: Final = 10**12
"""The highest of every other limit that can be set."""
POLICY_NAME_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
PolicyName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=f"^{POLICY_NAME_PATTERN}$")]


def within_limit(text: str, info: ValidationInfo) -> str:
    """Return a text that is no longer than the limit in force (code points)."""
    check_length(len(text), info)
    return text


def check_length(length: int, info: ValidationInfo) -> None:
    """Check that so many code points are no more than the limit in force."""
    limit = (info.context or {}).get("text_limit", DEFAULT_TEXT_LIMIT)
    if length > limit:
        raise PydanticCustomError(
            "text_too_long", "must be at most {limit} characters, not {length}", {"limit": limit, "length": length}
        )


_ABSENT: Any = object()
"""Tells a text that was not given from one that is null."""


class GuardRequest(Message):
    """What `POST /guard`, `vigil.api.guard` and `vigil.guard.*` accept: a text, or the messages of a chat."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["text"]}, {"required": ["messages"]}]})

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] | None = Field(
        default=None,
        repr=False,
        description="A chat in place of a text, in the shape of OpenAI's API. Each message is judged by its role: "
        "`user` as an input, `tool` as a tool's output, `assistant` as an output, and so are the arguments of tool "
        "calls; `system` is the prompt that an answer must not give away.",
    )
    text: str = Field(
        default_factory=lambda: _ABSENT,
        validate_default=True,
        description="The text to judge: a prompt, a model's answer or a tool's output.",
    )
    judge: Judge = Field(
        default=Judge.ALL,
        description="Which messages are judged for attacks: `all`, or the `last`, those since the assistant last "
        "spoke. Personal data is replaced in all of them. Without meaning for a text.",
    )
    redact_system: Flag = Field(
        default=True,
        description="Whether personal data is replaced in a chat's system messages too; false leaves them as they are.",
    )
    mode: Mode = Field(
        default=Mode.FULL,
        description="`fast`: no personal-data scan. `full`: every branch. When absent, the policy says; the shipped "
        "ones say `full`.",
    )
    source: Source = Field(
        default=Source.INPUT, description="Where the text comes from; of a chat, its last message's role says it."
    )
    request_id: UUID | None = Field(
        default=None, description="Idempotency key: the same id and text get the first decision again."
    )
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = Field(
        default=None, description="ISO 639-1 code of the text; detected when absent."
    )
    metadata: Metadata = Field(default_factory=dict, description="Flat labels, stored with the decision.")
    policy: PolicyName | None = Field(default=None, description="Name of a policy; the configured default when absent.")
    deadline_ms: Annotated[Integer, Field(ge=1, le=60_000)] | None = Field(
        default=None, description="How long the caller waits, in milliseconds; the configured timeout when absent."
    )
    allow_list: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=100)
    ] = Field(default_factory=list, description="Values that are never treated as personal data.")
    dry_run: Flag = Field(
        default=False,
        description="Judge and record, and let the text pass: `decision` is ALLOWED, and `would_decide` says what it "
        "would have been.",
    )
    shadow: Flag = Field(
        default=False,
        description="Say in `shadow` what the policy that is tried beside the one in force would have decided.",
    )
    restorable: Flag = Field(
        default=False,
        description="A SANITIZED answer then carries a `restore_map`, with which `POST /restore` puts the values back. "
        "No effect in `fast` mode.",
    )
    restore_map: Annotated[str, StringConstraints(max_length=MAX_RESTORE_MAP_LENGTH)] | None = Field(
        default=None,
        repr=False,
        description="The map of an earlier SANITIZED answer of the same conversation: a value that it holds gets its "
        "placeholder again, and new values take none of its numbers. A `restorable` answer's map then holds its "
        "placeholders too, and expires with it. Checked in `fast` mode as well, and not used without a scan.",
    )
    canaries: Annotated[list[Canary], Field(max_length=MAX_CANARIES)] = Field(
        default_factory=list,
        repr=False,
        description="Secret tokens of the system prompt: an output, or a tool's output, that holds one is BLOCKED.",
    )
    system_prompt: Annotated[str, StringConstraints(max_length=32_000)] | None = Field(
        default=None,
        repr=False,
        description="The prompt that an output must not give away; used for this check alone, never stored or logged.",
    )

    @field_validator("messages", mode="before")
    @classmethod
    def messages_are_few(cls, messages: Any) -> Any:
        if isinstance(messages, list):
            check_count(len(messages), MAX_MESSAGES, "items")
            read = [message for message in messages if isinstance(message, dict)]
            for field, what, limit in (("content", "parts", MOST_TEXTS), ("tool_calls", "tool calls", MAX_MESSAGES)):
                held = (message.get(field) for message in read)
                check_count(sum(len(each) for each in held if isinstance(each, list)), limit, what)
        return messages

    @field_validator("messages")
    @classmethod
    def messages_are_usable(cls, messages: list[ChatMessage] | None, info: ValidationInfo) -> list[ChatMessage] | None:
        if messages is not None:
            check_length(conversation_length(messages), info)
            if sum(len(each.texts) for each in utterances(messages)) > MOST_TEXTS:
                raise PydanticCustomError("too_many_texts", "may hold at most {limit} texts", {"limit": MOST_TEXTS})
            if not any(message.says_something for message in messages if not message.role.instructs):
                raise PydanticCustomError("nothing_to_judge", "must have a text that is not blank beside the system's")
        return messages

    @field_validator("text", mode="wrap")
    @classmethod
    def text_is_usable(cls, given: object, as_text: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
        # Messages that do not fit are not among the data, and are complained of already.
        of_a_chat = info.data.get("messages", ()) is not None
        if given is _ABSENT:
            if of_a_chat:
                return ""
            raise PydanticCustomError("missing", "is required")
        text: str = as_text(given)
        if of_a_chat:
            if text:
                raise PydanticCustomError("text_beside_messages", "cannot be given beside messages")
            return text
        text = within_limit(text, info)
        if not text or text.isspace():
            raise PydanticCustomError("text_blank", "must contain at least one character that is not white space")
        return text

    @property
    def origin(self) -> Source:
        """Where it comes from: what the request says of a text, and the last role of a chat, the system's left out."""
        spoken = [message.role for message in self.messages or () if not message.role.instructs]
        return SOURCE_OF[spoken[-1]] if spoken else self.source

    @property
    def whole_text(self) -> str:
        """The text, or that of the whole chat."""
        return self.text if self.messages is None else conversation_text(self.messages)

    @property
    def identity(self) -> str:
        """What a digest is made of: a request id belongs to it."""
        return self.text if self.messages is None else conversation_identity(self.messages)


class Envelope(Message):
    """What travels beside a message from stage to stage in headers; workers read it and never change it."""

    request_id: UUID
    received_at: datetime
    """When the guard first saw the request (UTC)."""
    deadline: datetime | None = None
    """When the caller stops waiting (UTC); None when nobody waits."""
    reply_to: str | None = None
    """The caller's inbox subject; None when the decision is only stored."""
    tenant: TenantName = DEFAULT_TENANT
    """Whose request it is: a request id means something within one tenant alone."""
    key_id: KeyId = ""
    traceparent: str = ""
    """W3C trace context that this stage continues; empty without one."""
    attempt: str = ""
    """Part of every message id of this attempt: a request that expired, or a dead letter, may be tried again."""
    given_id: UUID | None = None
    """What the caller calls the request, where it is kept under another id: see `app/access/tenancy.py`."""


class BranchResult(Message):
    """What one detection branch says of a text."""

    score: Annotated[float, Field(ge=0, le=100)]
    confidence: Annotated[float, Field(ge=0, le=1)]
    degraded: bool = False
    """True when the branch failed and its score means nothing."""
    signals: list[str] = Field(default_factory=list)
    """Stable machine-readable names of what was seen (rule ids, families)."""
    explanations: list[str] = Field(default_factory=list)
    """Sentences for people; they never quote the text."""
    latency_ms: Annotated[float, Field(ge=0)] = 0.0


class Finding(Message):
    """One span that mattered; never carries the matched text."""

    detector: str
    rule: str
    start: UInt32
    end: UInt32
    score: Annotated[float, Field(ge=0, le=100)]
    action: Action = Action.NONE


class DetectionReport(Message):
    """All branches' results for one text."""

    branches: dict[BranchName, BranchResult]
    categories: list[Category] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)
    leaked: bool = False
    """True when the text gives away a canary or the system prompt, which every policy blocks."""
    denied: list[str] = Field(default_factory=list)
    """Rules of the policy's deny list that the text falls under."""
    shadow_denied: list[str] = Field(default_factory=list)
    """The same for the policy that is tried beside it."""
    allowed: Literal["text", "part"] | None = None
    """What of the text was not judged because the policy's allow list names it."""
    model_version: str


class PiiEntity(Message):
    type: str
    start: UInt32
    end: UInt32
    score: Annotated[float, Field(ge=0, le=1)]


class PiiReport(Message):
    """What the personal-data scan found; `count` counts all entities, `entities` lists the first MAX_LISTED_SPANS."""

    scanned: bool = False
    scope: Literal["all", "patterns"] | None = None
    """What a scan looked for: all kinds, or in fast mode those with a shape alone (no names, no places)."""
    degraded: bool = False
    """True when the scan was asked for and failed."""
    language: str | None = None
    entities: list[PiiEntity] = Field(default_factory=list)
    count: UInt32 = 0
    latency_ms: Annotated[float, Field(ge=0)] = 0.0


class PolicyPin(Message):
    """One version of one policy."""

    name: PolicyName
    version: Annotated[int, Field(ge=1)]
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """Digest of its content: tells versions apart also where two replicas have different files."""


class GuardedText(Message):
    """What later stages may know of the text when they must not see it."""

    digest: str
    """SHA-256 of the UTF-8 text, or HMAC-SHA-256 where a hash key is configured; lower-case hex."""
    length: UInt32
    """Code points."""
    mode: Mode
    source: Source
    policy: PolicyName | None = None
    """The policy that the request names; None for the default one."""
    pin: PolicyPin | None = None
    """What the request is judged by; None in messages that no detection stage wrote."""
    shadow: PolicyPin | None = None
    """The policy that is tried beside it."""
    dry_run: bool = False
    show_shadow: bool = False
    metadata: dict[str, MetadataValue] = Field(default_factory=dict)


Stretch = tuple[UInt32, UInt32]
"""First code point and one past the last."""


class PartShape(Message):
    """One part of a message's content, without its text."""

    type: str
    holds: Literal["text", "refusal"] | None
    """The field with its text; None where it has none and is not read."""


def _is_none(value: object) -> bool:
    """Whether a field is left out: what has none is the same to those who do not know the field."""
    return value is None


class CallPlace(Message):
    """Whose arguments are judged, and where each of their texts stands in them."""

    path: str
    pointers: list[str]


class MessageReport(Message):
    """What is known of one message of a chat on its way through the stages: of its content, or of a tool call's
    arguments, which follow it as a report of their own."""

    role: Role
    texts: list[Stretch]
    """Where its texts stand in the job's text."""
    parts: list[PartShape] | None = None
    """The content's parts; None where the content is a plain string or there is none."""
    not_judged: list[str] = Field(default_factory=list)
    left_as_it_is: bool = False
    """Whether its personal data is neither reported nor replaced, but in what may be stored."""
    detection: DetectionReport | None = None
    """Offsets are those of the message's own text; None when it was not judged."""
    together: DetectionReport | None = None
    """What was seen when it was read together with the user's messages right before it; without findings."""
    pii: PiiReport = PiiReport()
    """Offsets are those of the message's own text."""
    kept: UInt32 = 0
    redacted: list[Stretch] | None = None
    """Where its texts stand in the redacted text; None when nothing of it was changed."""
    call: CallPlace | None = Field(default=None, exclude_if=_is_none)
    """For a tool call of the message before it."""

    @property
    def start(self) -> int:
        """Where its text begins in the job's text."""
        return self.texts[0][0] if self.texts else 0

    @property
    def length(self) -> int:
        return self.texts[-1][1] - self.texts[0][0] if self.texts else 0


class ScanJob(Message):
    """`vigil.pii.scan`: a text that detection has judged and whose personal data is to be found."""

    text: str
    language: str | None
    allow_list: list[str]
    restorable: bool = False
    """Whether the caller wants to put the values back later."""
    restore_map: str | None = Field(default=None, repr=False, exclude_if=_is_none)
    """Sealed: the placeholders that the conversation has so far; None where the request names none."""
    subject: GuardedText
    detection: DetectionReport
    conversation: list[MessageReport] | None = None
    """The messages of a chat, whose text is theirs together; None for a text."""


class DecideJob(Message):
    """`vigil.arbiter.decide`: all that is known, ready for a decision."""

    subject: GuardedText
    detection: DetectionReport
    pii: PiiReport
    redacted_text: str | None
    """The text after what the policy's table says of each personal-data entity; None when no scan took place."""
    kept: UInt32 = 0
    """How many entities the table leaves as they are."""
    log_text: str | None = None
    """The text with those replaced too, and those of messages that are left as they are: what may be stored of it; None
    when none was left."""
    restore_map: str | None = Field(default=None, repr=False)
    """Sealed: what the placeholders stand for; None when the caller did not ask for it or there are none."""
    conversation: list[MessageReport] | None = None
    """The messages of a chat; `detection` then only names the models."""


def gives_secret_away(job: ScanJob | DecideJob) -> bool:
    """Whether the text, or a message of the chat, gives away a canary or the system prompt: no text of it is stored."""
    if job.conversation is None:
        return job.detection.leaked
    reports = (report for each in job.conversation for report in (each.detection, each.together))
    return any(report is not None and report.leaked for report in reports)


class ArgumentFinding(Finding):
    """A span that mattered in the arguments of a tool call; offsets count in the one text that `pointer` names."""

    pointer: str


class SanitizedArgument(Message):
    """One text of the arguments of a tool call, as it is to be used."""

    pointer: str = Field(description="Its place in the arguments: a JSON Pointer (RFC 6901), empty for all of them.")
    text: str


class ArgumentsVerdict(Message):
    """What was decided of the arguments of one tool call, of what a tool gave back, or of a refusal beside a text."""

    path: str = Field(
        description="Where they stand in the message: `tool_calls.0.function.arguments`, `content.0.content`, "
        "`refusal`."
    )
    decision: Verdict
    score: Annotated[int, Field(ge=0, le=100)]
    threat_level: ThreatLevel
    categories: list[Category]
    findings: list[ArgumentFinding]
    sanitized_texts: list[SanitizedArgument] | None = Field(
        default=None,
        description="Where the chat and these arguments are SANITIZED: all their texts to use, in order. The whole "
        "arguments, as JSON of the same shape, stand in the answer's `sanitized_messages`.",
    )


class MessageVerdict(Message):
    """What was decided of one message of a chat; the worst of its content and its tool calls."""

    index: UInt32
    role: Role
    judged: bool = Field(description="Whether it was judged for attacks; a system's message never is.")
    decision: Verdict
    score: Annotated[int, Field(ge=0, le=100)]
    threat_level: ThreatLevel
    categories: list[Category]
    findings: list[Finding]
    """Those of the content; offsets are those of this message's text: its texts, with a line break between them."""
    sanitized_content: Content | None = Field(
        default=None,
        description="Where the chat and this message are SANITIZED: its content to use, in the shape it came; parts "
        "without a text are named by their type alone. A decision read back from the event log no longer has it.",
    )
    not_judged: list[str] = Field(
        default_factory=list, description="What of it nobody read: types of parts (`image_url`) and names of fields."
    )
    arguments: list[ArgumentsVerdict] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="For a message that calls tools, or holds results or refusals: what was decided of each.",
    )

    def bare(self) -> MessageVerdict:
        """Return the verdict without texts to use, and without names that a caller gave."""
        arguments = self.arguments and [
            each.model_copy(update={"findings": [], "sanitized_texts": None}) for each in self.arguments
        ]
        return self.model_copy(update={"sanitized_content": None, "arguments": arguments})


class ShadowDecision(Message):
    """What a policy that is tried beside the one in force would have decided."""

    policy: str
    policy_version: UInt32
    decision: Verdict
    score: Annotated[int, Field(ge=0, le=100)]


class GuardAnswer(Message):
    """What the caller gets. A BLOCKED decision is a success of the check, not an error."""

    request_id: UUID
    decision: Verdict
    score: Annotated[int, Field(ge=0, le=100)]
    threat_level: ThreatLevel
    categories: list[Category]
    explanations: list[str]
    branches: dict[BranchName, BranchResult]
    findings: list[Finding]
    boosts: list[str]
    """Names of the policy's boosts that raised the score, in order."""
    pii: PiiReport
    sanitized_text: str | None
    """The text to use when the decision is SANITIZED, else None."""
    restore_map: str | None = Field(
        default=None,
        repr=False,
        description="For a `restorable` request that is SANITIZED: what the placeholders stand for, encrypted for "
        "`POST /restore`. Kept by the caller; a decision read back from the event log no longer has it.",
    )
    mode: Mode
    source: Source
    policy: str
    policy_version: UInt32 = 0
    """The version of the policy that decided; 0 where nothing was judged."""
    dry_run: bool = False
    """True when the request asked not to be held to the decision, which then is ALLOWED."""
    would_decide: Verdict | None = None
    """The decision that a dry run did not carry out; findings and explanations belong to it."""
    shadow: ShadowDecision | None = None
    """For a request that asks for it, where a policy is tried beside the one that decided."""
    latency_ms: Annotated[float, Field(ge=0)]
    model_version: str
    messages: list[MessageVerdict] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="For a chat: the decision of each message. The fields above are those of the whole: the worst "
        "decision, the highest score and that message's branches, and offsets into all texts with a blank line between "
        "messages.",
    )
    sanitized_messages: list[ChatMessage] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="For a chat that is SANITIZED: all messages to use, in the shape they came. Only in the answer "
        "itself; a decision that is read again has the `sanitized_content` of each message.",
    )


class DecisionRecord(Message):
    """`vigil.logs.event`, and the decision store's value: one decision as it is kept for ever."""

    answer: GuardAnswer
    received_at: RecordedTime
    decided_at: RecordedTime
    text_digest: str
    text_length: UInt32
    redacted_text: str | None
    """What may be stored of the text; None in fast mode, and where the answer's sanitized text is that."""
    metadata: dict[str, MetadataValue]
    tenant: TenantName = DEFAULT_TENANT
    key_id: KeyId = ""
    shadow: ShadowDecision | None = None
    """What the policy that is tried beside the one in force would have decided; None where none is."""

    def as_logged(self) -> DecisionRecord:
        """Return the record as the event log may have it: without the sealed map, and with no value that was kept."""
        answer, redacted_text = self.answer, self.redacted_text
        if answer.sanitized_text is not None and redacted_text is not None:
            answer = answer.model_copy(update={"sanitized_text": redacted_text})
            redacted_text = None
        if answer.restore_map is not None:
            answer = answer.model_copy(update={"restore_map": None})
        if answer.messages is not None:
            answer = answer.model_copy(update={"messages": [message.bare() for message in answer.messages]})
        if answer is self.answer:
            return self
        return self.model_copy(update={"answer": answer, "redacted_text": redacted_text})


class FieldError(Message):
    field: str
    reason: str


class Problem(Message):
    """RFC 9457 problem+json; also the error answer over NATS."""

    type: str
    title: str
    status: int
    detail: str
    request_id: UUID | None = None
    errors: list[FieldError] = Field(default_factory=list)


class GuardBatch(Message):
    """What `POST /guard/batch` accepts."""

    requests: Annotated[list[GuardRequest], Field(min_length=1, max_length=1000)]
    wait: Flag = Field(default=True, description="False: answer 202 with the ids at once; read the decisions later.")


class BatchItem(Message):
    """One answer of a batch: a decision, or the problem that took its place."""

    status: int
    answer: GuardAnswer | None = None
    problem: Problem | None = None
    request_id: UUID | None = Field(
        default=None,
        description="With `wait: false` and status 202: accepted, its decision is read at `GET /guard/{request_id}`.",
    )


class BatchAnswer(Message):
    results: list[BatchItem]
    """In the order of the requests."""


class BatchReceipt(Message):
    request_ids: list[UUID]
    """In the order of the requests; each decision is read at `GET /guard/{request_id}`."""


class RestoreRequest(Message):
    """What `POST /restore` accepts."""

    text: str = Field(description="A model's answer to a sanitized text.")
    restore_map: str = Field(repr=False, description="The map of the answer that had the sanitized text.")
    request_id: UUID | None = Field(
        default=None, description="When given, a map of another request is refused with 422."
    )

    @field_validator("text")
    @classmethod
    def text_fits(cls, text: str, info: ValidationInfo) -> str:
        return within_limit(text, info)


class RestoreAnswer(Message):
    """A text with its personal data back in place."""

    request_id: UUID
    """The request whose map it was, as its caller calls it."""
    text: str
    restored: int = Field(ge=0, description="How many places of the text were filled.")
    missing: list[str] = Field(description="Placeholders of the sanitized text that this text does not have.")


class PiiQuery(Message):
    """Texts whose personal data is to be found and told, outside the pipeline."""

    texts: list[str] = Field(repr=False)
    language: str | None = None
    """ISO 639-1 code; told from each text when None."""
    allow_list: list[str] = Field(default_factory=list, repr=False)


class Anonymizer(Message):
    """What becomes of the values of one kind."""

    action: Literal["replace", "redact", "mask", "hash", "keep"] = "replace"
    new_value: str | None = None
    """For `replace`; `<KIND>` when None."""
    masking_char: str = "*"
    chars_to_mask: int | None = None
    """How many characters `mask` hides; all when None."""
    from_end: Flag = False
    """Whether `mask` begins with the last character."""
    hash_type: Literal["sha256", "sha512"] = "sha256"
    salt: str | None = Field(default=None, repr=False)
    """For `hash`; random for each request when None, since a bare hash of a short value can be looked up."""


class AnonymizeJob(Message):
    """A text, what was found in it, and what is done with each kind."""

    text: str = Field(repr=False)
    entities: list[PiiEntity]
    anonymizers: dict[str, Anonymizer] = Field(default_factory=dict)
    """By kind; `DEFAULT` for those that are not named."""


class AnonymizedItem(Message):
    """One value of the new text: offsets there, and what stands there now."""

    start: UInt32
    end: UInt32
    entity_type: str
    text: str
    operator: str


class Anonymized(Message):
    text: str
    items: list[AnonymizedItem]
    """The last one first."""


class Check(Message):
    ok: bool
    reason: str | None = None


class Readiness(Message):
    """Whether this process can decide requests; `checks` names each part."""

    ready: bool
    checks: dict[str, Check]
