"""The policies of a configuration folder, read and checked at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.arbiter.documents import parse_policy, read_yaml
from app.arbiter.policy import Policy
from app.errors import ConfigurationError, InvalidRequest, PolicyRefused

DEFAULT_POLICY: Final = "balanced"
POLICY_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """All policies of a configuration folder and which one holds when a request names none."""

    policies: Mapping[str, Policy]
    default: str

    @property
    def names(self) -> list[str]:
        return sorted(self.policies)

    def get(self, name: str | None = None) -> Policy:
        """Return the named policy, or the default one for None.

        Raises:
            InvalidRequest: no policy has this name; field is `policy`, and the message lists the names that exist.
        """
        policy = self.policies.get(self.default if name is None else name)
        if policy is None:
            raise InvalidRequest(f"The policy must be one of {', '.join(self.names)}.", field="policy")
        return policy


def load_policies(config_dir: Path, default: str = DEFAULT_POLICY) -> PolicyBook:
    """Read every policy file of `policies/` in the configuration folder.

    Raises:
        ConfigurationError: a file cannot be read or does not fit the schema (the message names file and field), there
            is no file, or none is called like the default.
    """
    folder = config_dir / "policies"
    paths = sorted(path for path in folder.glob("*") if path.suffix in POLICY_SUFFIXES)
    policies: dict[str, Policy] = {}
    for path in paths:
        policy = load_policy(path)
        if policy.name in policies:
            raise ConfigurationError(f"{path}: name: another file has this policy too", field="name")
        policies[policy.name] = policy
    if default not in policies:
        known = ", ".join(sorted(policies)) or "none"
        raise ConfigurationError(f"{folder}: the default policy {default} is missing; found: {known}", field="policy")
    return PolicyBook(policies=policies, default=default)


def load_policy(path: Path) -> Policy:
    """Read one policy file, whose name without suffix is the policy's name.

    Raises:
        ConfigurationError: the file cannot be read or does not fit the schema; the message names file and field.
    """
    try:
        policy = parse_policy(read_yaml(path))
    except PolicyRefused as refused:
        raise ConfigurationError(f"{path}: {refused.message}", field=refused.faults[0][0]) from None
    if policy.name != path.stem:
        raise ConfigurationError(f"{path}: name: must be the file's name, {path.stem}", field="name")
    return policy
