"""Every error class of the project; each docstring is the default message and says what went wrong."""

from __future__ import annotations

from inspect import cleandoc
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

if TYPE_CHECKING:
    from app.contracts import Problem


class VigilError(Exception):
    """The guard could not do what was asked."""

    status: ClassVar[int] = 500
    """HTTP status of the problem+json answer."""
    code: ClassVar[str] = "internal-error"
    """Stable machine-readable name: the tail of the problem's `type` and a metric label."""
    retryable: ClassVar[bool] = True
    """Whether the same message can succeed when it is delivered again."""

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        faults: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Keep what went wrong.

        Args:
            message: a sentence for people that never repeats the text; the class's docstring by default.
            field: the one field that is at fault.
            faults: several (field, reason) pairs, in place of `field`.
        """
        self.message = message or cleandoc(type(self).__doc__ or "").partition("\n")[0]
        self.field = field
        self.faults = faults or (((field, self.message),) if field else ())
        super().__init__(self.message)


class InvalidRequest(VigilError):
    """The request does not fit the schema."""

    status = 422
    code = "invalid-request"
    retryable = False


class MalformedJson(InvalidRequest):
    """The body is not valid JSON."""

    status = 400
    code = "malformed-json"


class PayloadTooLarge(InvalidRequest):
    """The payload is larger than the configured limit."""

    status = 413
    code = "payload-too-large"


class AnswerTooLarge(PayloadTooLarge):
    """The answer does not fit a message; read its decision by the request id."""

    def __init__(self, *, request_id: UUID) -> None:
        super().__init__()
        self.request_id = request_id


class UnknownField(VigilError):
    """A later version of this service wrote the message, with fields that this one does not know."""

    code = "unknown-field"


class CrossOrigin(VigilError):
    """A page of another site may not use this service; list its origin in http.cors_origins."""

    status = 403
    code = "cross-origin"
    retryable = False


class UnsupportedMediaType(InvalidRequest):
    """The body must be application/json."""

    status = 415
    code = "unsupported-media-type"


class PolicyRefused(InvalidRequest):
    """The policy does not fit the schema."""

    code = "policy-refused"


class PolicyUnreadable(PolicyRefused):
    """What is stored is no policy to this release: a newer one wrote it, or it is damaged."""


class PolicyConflict(VigilError):
    """The policy was changed meanwhile by somebody else; look at it and try again."""

    status = 409
    code = "policy-conflict"
    retryable = False


class UnknownPolicy(VigilError):
    """There is no policy of this name, or none of this version."""

    status = 404
    code = "unknown-policy"
    retryable = False


class PolicyUnavailable(VigilError):
    """The version of the policy that this request is pinned to is not known here and cannot be read."""

    status = 503
    code = "policy-unavailable"


class RestoreMapRefused(InvalidRequest):
    """The restore map cannot be used: it is not one of this service's, was changed, or has expired."""

    code = "restore-map-refused"

    def __init__(self) -> None:
        super().__init__(field="restore_map")


class UnknownRequest(VigilError):
    """No decision is known for this request id."""

    status = 404
    code = "unknown-request"
    retryable = False


class UnknownOrder(VigilError):
    """There is no order to forget with this id; orders are kept for 30 days."""

    status = 404
    code = "unknown-order"
    retryable = False


class TenantRefused(VigilError):
    """This key reads its own tenant alone."""

    status = 403
    code = "tenant-refused"
    retryable = False


class RequestExpired(VigilError):
    """The deadline had passed before the text was judged; send it again."""

    status = 410
    code = "request-expired"
    retryable = False


class RequestIdConflict(VigilError):
    """This request id was already used for another text."""

    status = 409
    code = "request-id-conflict"
    retryable = False


class KeyMissing(VigilError):
    """This service needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    status = 401
    code = "key-missing"
    retryable = False


class KeyRefused(VigilError):
    """This key is not known here."""

    status = 401
    code = "key-refused"
    retryable = False


class ScopeMissing(VigilError):
    """This key does not have the scope that is needed here."""

    status = 403
    code = "scope-missing"
    retryable = False


class PolicyNotAllowed(VigilError):
    """This key may not be used with this policy."""

    status = 403
    code = "policy-not-allowed"
    retryable = False


class ClosedToStrangers(VigilError):
    """Without keys this service answers only callers of its own machine, under a name of that machine."""

    status = 403
    code = "closed-to-strangers"
    retryable = False


class KeysUnread(VigilError):
    """The keys have not been read yet, so nobody is let in; try again later."""

    status = 503
    code = "keys-unread"


class BodyTimeout(VigilError):
    """The body took too long to arrive."""

    status = 408
    code = "body-timeout"
    retryable = False


class BodyIncomplete(VigilError):
    """The connection was closed before the whole body had come."""

    status = 400
    code = "body-incomplete"
    retryable = False


class RateLimited(VigilError):
    """Too many requests; try again later."""

    status = 429
    code = "rate-limited"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyAtOnce(RateLimited):
    """Too many requests of this key are under way at once."""

    code = "too-many-at-once"


class QuotaExceeded(RateLimited):
    """The quota of this key is used up."""

    code = "quota-exceeded"


class UnknownKey(VigilError):
    """There is no key with this id."""

    status = 404
    code = "unknown-key"
    retryable = False


class Overloaded(VigilError):
    """More requests are waiting than can be answered in time; try again later."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MessagingUnavailable(VigilError):
    """The message server cannot be reached."""

    status = 503
    code = "messaging-unavailable"


class ServerRefusal(VigilError):
    """The message server refused what was asked of it."""

    status = 502
    code = "server-refusal"
    retryable = False


class UnknownResource(ServerRefusal):
    """The message server has no stream, consumer or message of this name."""

    status = 404
    code = "unknown-resource"


class EventLogUnavailable(VigilError):
    """The event log cannot be reached."""

    status = 503
    code = "event-log-unavailable"


class EventLogBusy(EventLogUnavailable):
    """Another process of this machine has the embedded event log open."""

    code = "event-log-busy"


class QueryTimeout(VigilError):
    """The event log did not answer in time; ask for a shorter period."""

    status = 504
    code = "query-timeout"


class RowsRefused(VigilError):
    """The event log can be reached and refuses these rows."""

    code = "rows-refused"
    retryable = False

    def __init__(self, *, positions: tuple[int, ...]) -> None:
        super().__init__()
        self.positions = positions


class DecisionTimeout(VigilError):
    """No decision came in time; it can be read later under its request id."""

    status = 504
    code = "decision-timeout"

    def __init__(self, message: str | None = None, *, request_id: UUID | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class ScanFailed(VigilError):
    """The scan for personal data failed."""

    code = "scan-failed"


class DeliveriesExhausted(VigilError):
    """Every delivery ended without an answer: the worker was killed or lost its connection each time."""

    code = "deliveries-exhausted"
    retryable = False


class Unrouted(VigilError):
    """No consumer matches the subject this was published to."""

    code = "unrouted"
    retryable = False


class StreamIdle(VigilError):
    """Nothing came for too long, or the stream took too long in all."""

    status = 408
    code = "stream-idle"
    retryable = False


class StreamOutOfOrder(VigilError):
    """A chunk is missing: each carries the number after the one before it."""

    status = 409
    code = "stream-out-of-order"
    retryable = False


class StreamOverrun(VigilError):
    """More chunks came than can wait; wait for the answers to them."""

    status = 429
    code = "stream-overrun"
    retryable = False


class StreamLost(VigilError):
    """The process that this stream is judged in is stopping; open it again."""

    status = 503
    code = "stream-lost"


class ConfigurationError(VigilError):
    """The configuration cannot be used."""

    code = "configuration-error"
    retryable = False


class ModelUnavailable(VigilError):
    """A model file is missing or does not match the code that reads it."""

    code = "model-unavailable"
    retryable = False


class EmbeddedServerError(VigilError):
    """The embedded message server could not be started."""

    code = "embedded-server-error"


class ProblemReply(VigilError):
    """A stage answered the request with a problem in place of a decision."""

    code = "not-decided"
    retryable = False

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem
