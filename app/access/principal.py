"""Who calls: what a key, or its absence, stands for while one request is worked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from app.access.limits import UNLIMITED, Limits
from app.contracts import DEFAULT_TENANT, GuardRequest
from app.errors import InvalidRequest, PolicyNotAllowed


class Scope(StrEnum):
    """What a caller may do."""

    GUARD = "guard"
    """Have texts judged and restored."""
    EVENTS = "events"
    """Read what the event log holds."""
    ADMIN = "admin"
    """Change keys, policies and what is kept, of every tenant."""


EVERY_SCOPE: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request."""

    key_id: str = ""
    """Empty for a caller without a key."""
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[Scope] = field(default=EVERY_SCOPE)
    policy: str | None = None
    """The policy of a request that names none; None leaves it to the default and `policies` (`bound`)."""
    policies: tuple[str, ...] = ()
    """The policies that a request may name, in the key's order; every one when empty."""
    limits: Limits = UNLIMITED

    def bound(self, request: GuardRequest, default: str | None = None) -> GuardRequest:
        """Return a request as this caller may make it: under the caller's policy where it names none.

        Args:
            request: as it was sent.
            default: the policy in force of requests that name none. A caller without a policy of its own is judged by
                it; by the first of the caller's policies where it is not among them.

        Raises:
            PolicyNotAllowed: it names a policy that is not among the caller's.
            InvalidRequest: its text is longer than the caller's may be.
        """
        self.check_length(request.whole_text, field="text" if request.messages is None else "messages")
        if request.policy is None:
            policy = self.policy
            if policy is None and self.policies:
                policy = default if default in self.policies else self.policies[0]
            return request if policy is None else request.model_copy(update={"policy": policy})
        if self.policies and request.policy not in self.policies and request.policy != self.policy:
            raise PolicyNotAllowed(field="policy")
        return request

    def check_length(self, text: str, *, field: str) -> None:
        """Return when a text is no longer than this caller's may be.

        Raises:
            InvalidRequest: it is longer.
        """
        longest = self.limits.text_length
        if longest is not None and len(text) > longest:
            raise InvalidRequest(f"must be at most {longest} characters for this key, not {len(text)}", field=field)

    def batch_limit(self, service_limit: int) -> int:
        """Return how many texts a batch of this caller may hold where the service takes so many."""
        return min(service_limit, self.limits.batch_size or service_limit)


ANONYMOUS: Final = Principal()
"""Whoever calls a service that is open."""
