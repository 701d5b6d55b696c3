"""What a policy needs beyond its schema: kinds of personal data that exist, readable phrases, a key for hashes."""

from __future__ import annotations

from collections.abc import Callable

from app.arbiter.policy import Policy
from app.detection.phrases import check_lists
from app.pii.worker import Redactors, check_kinds


def check_policy(policy: Policy) -> None:
    """Check what every deployment must be able to carry out.

    Raises:
        PolicyRefused: the policy cannot be; names the field.
    """
    check_kinds(policy.redaction)
    check_lists(policy.allow_list, policy.deny_list)


def checks_of(redactors: Redactors) -> Callable[[Policy], None]:
    """Return the check of this process, which knows whether there is a key for hashes."""

    def check(policy: Policy) -> None:
        redactors.check(policy.redaction)
        check_lists(policy.allow_list, policy.deny_list)

    return check
