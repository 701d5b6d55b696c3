"""Policies: how branch scores become a decision, as data files with a schema that is checked at start."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.arbiter.boosts import Boost, ConservativeOverride
from app.arbiter.scale import Section, ThreatLevels
from app.contracts import PolicyName
from app.errors import ConfigurationError, InvalidRequest
from app.redaction import REPLACE_ALL, RedactionTable

DEFAULT_POLICY: Final = "balanced"
POLICY_SUFFIXES: Final = (".yaml", ".yml")
WEIGHT_SLACK: Final = 1e-6
"""How far the weights' sum may be from 1: binary fractions, not carelessness."""

Share = Annotated[float, Field(gt=0, lt=1)]


class BranchWeights(Section):
    """Each branch's share of the weighted mean; together 1."""

    heuristics: Share
    semantic: Share
    classifier: Share

    @model_validator(mode="after")
    def shares_add_up(self) -> Self:
        total = self.heuristics + self.semantic + self.classifier
        if abs(total - 1) > WEIGHT_SLACK:
            raise PydanticCustomError("weight_sum", "must add up to 1, not {total}", {"total": round(total, 6)})
        return self


class Policy(Section):
    """One named way to decide; all scores are whole points of 0 to 100."""

    name: PolicyName
    version: Annotated[int, Field(ge=1)]
    """Raised with every change of a value, so that stored decisions can be told apart."""
    description: Annotated[str, Field(min_length=1)]
    weights: BranchWeights
    levels: ThreatLevels
    block_at: Annotated[int, Field(ge=1, le=100)]
    """Lowest score that is BLOCKED."""
    degraded_factor: Annotated[float, Field(ge=0, le=1)]
    """What remains of the weight of a branch that failed or is missing, before weights are normalised."""
    all_degraded: Literal["block", "allow"] = "block"
    """What happens to a text that no branch could judge."""
    redact: bool = True
    """Whether allowed text with personal data becomes SANITIZED."""
    redaction: RedactionTable = REPLACE_ALL
    """What is done with each kind of personal data."""
    pii_degraded: Literal["block", "allow"] = "block"
    """What happens to a text of which `redact` was asked and impossible: the scan failed or gave no redacted text.

    `block` by default, because a guard that was asked to redact must not hand out ALLOWED as if it had; `allow` keeps
    the decision and says in the explanations that personal data may remain. Without `redact` it is only explained.
    """
    harmful_content: Literal["none", "block"] = "none"
    """What happens to a request for harmful content, which is no injection and leaves the score alone."""
    boosts: Annotated[tuple[Boost, ...], Field(strict=False)] = ()
    """Tried in this order, each at most once."""

    @field_validator("block_at")
    @classmethod
    def low_is_never_blocked(cls, block_at: int, info: ValidationInfo) -> int:
        levels = info.data.get("levels")
        if levels is not None and block_at <= levels.low_up_to:
            raise PydanticCustomError(
                "block_order", "must be above levels.low_up_to ({low})", {"low": levels.low_up_to}
            )
        return block_at

    @field_validator("boosts")
    @classmethod
    def boosts_fit_together(cls, boosts: tuple[Boost, ...], info: ValidationInfo) -> tuple[Boost, ...]:
        names = [boost.name for boost in boosts]
        if len(set(names)) < len(names):
            raise PydanticCustomError("boost_twice", "must list each boost at most once")
        block_at = info.data.get("block_at")
        for boost in boosts:
            # Otherwise a text could leave BLOCKED because another branch grew more suspicious of it.
            if isinstance(boost, ConservativeOverride) and block_at and boost.below < block_at <= boost.raise_to:
                raise PydanticCustomError(
                    "override_gap", "conservative_override.below must be at least block_at ({at})", {"at": block_at}
                )
        return boosts


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
        policy = Policy.model_validate(read_yaml(path))
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])) or "(file)", fault["msg"]) for fault in error.errors()]
        reasons = "; ".join(f"{field}: {reason}" for field, reason in faults)
        raise ConfigurationError(f"{path}: {reasons}", field=faults[0][0]) from None
    if policy.name != path.stem:
        raise ConfigurationError(f"{path}: name: must be the file's name, {path.stem}", field="name")
    return policy


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        ConfigurationError: the file cannot be read, is not UTF-8 or YAML, or repeats a key.
    """
    try:
        loader = UniqueKeyLoader(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigurationError(f"{path}: line {line}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML: {type(error).__name__}") from None


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error: PyYAML would keep the last and hide the other."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
