"""What can go wrong between a caller and the guard; no message repeats a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from .types import Decision


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A field of a request and why the guard refuses it."""

    field: str
    reason: str


class GuardError(Exception):
    """The guard did not do what was asked.

    `status` is the HTTP status and `code` the machine-readable name that the guard gave; both are None when no answer
    came. `request_id` is the id the request went out under: sent again with it, nothing is judged twice.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: UUID | None = None,
        faults: Sequence[FieldFault] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.faults = tuple(faults)


class NoAnswer(GuardError):
    """The guard could not say anything: what `on_failure` is for."""


class Unavailable(NoAnswer):
    """The guard could not be reached, did not get the whole request in time (408), or was too busy each time."""


class RateLimited(Unavailable):
    """The key's limit, or the guard's, was reached each time (429)."""


class NoDecision(NoAnswer):
    """The guard took the request, and its decision did not come in time; it can be read later by `request_id`."""


class UnexpectedAnswer(NoAnswer):
    """Something answered that does not speak as the guard does."""


class Refused(GuardError):
    """The guard refuses this request as it is; to send it again is in vain. `on_failure` does not cover this."""


class InvalidRequest(Refused):
    """A field does not fit, or the text is too large; `faults` names the fields."""


class AccessDenied(Refused):
    """The key is missing, wrong, expired, or may not do this."""


class RequestIdConflict(Refused):
    """The request id was used for another text before."""


class UnknownRequest(Refused):
    """No decision is known under this request id."""


class RequestExpired(Refused):
    """The request's time had passed before it was judged."""


class BatchFailed(GuardError):
    """Some texts of a batch have no decision; `results` holds a decision or an error for each, in their order."""

    def __init__(self, results: Sequence[Decision | GuardError]) -> None:
        failed = sum(isinstance(result, GuardError) for result in results)
        super().__init__(f"{failed} of {len(results)} texts have no decision")
        self.results = tuple(results)


class Blocked(GuardError):
    """The guard says that this text must not be used."""

    def __init__(self, decision: Decision) -> None:
        super().__init__("the guard blocked this text", request_id=decision.request_id)
        self.decision = decision
