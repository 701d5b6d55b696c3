"""Policies: how branch scores become a decision, as data with a schema."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.arbiter.boosts import Boost, ConservativeOverride
from app.arbiter.scale import Section, ThreatLevels
from app.contracts import BranchName, OnTimeout, PolicyName, UInt32
from app.lists import MAX_PHRASES, NOTHING_ALLOWED, AllowList, DenyList
from app.redaction import REPLACE_ALL, RedactionTable

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


class BranchSwitches(Section):
    """Which detection branches judge; the weights of those that do are brought to 1 again."""

    heuristics: bool = True
    semantic: bool = True
    classifier: bool = True

    @model_validator(mode="after")
    def one_is_on(self) -> Self:
        if not (self.heuristics or self.semantic or self.classifier):
            raise PydanticCustomError("all_off", "must leave at least one branch on")
        return self

    @cached_property
    def on(self) -> frozenset[BranchName]:
        return frozenset(name for name in BranchName if getattr(self, name))


ALL_BRANCHES: Final = BranchSwitches()


class Policy(Section):
    """One named way to decide; all scores are whole points of 0 to 100."""

    name: PolicyName
    version: Annotated[UInt32, Field(ge=1)]
    """Raised with every change of a value, so that stored decisions can be told apart. A policy that is applied to the
    running service gets the next one by itself."""
    description: Annotated[str, Field(min_length=1, max_length=1000)]
    mode: Literal["fast", "full"] = "full"
    """How a request is judged that names no mode."""
    branches: BranchSwitches = ALL_BRANCHES
    """Which detection branches judge."""
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
    allow_list: AllowList = NOTHING_ALLOWED
    """What is never held against a text."""
    deny_list: DenyList = ()
    """What blocks every text that it stands in, whatever its score."""
    on_timeout: OnTimeout = "error"
    """What an interface answers that has to answer something when no decision came in time: `allow` fails open, `block`
    fails closed. The guard's own answers stay errors (503, 504), so that the caller decides."""
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

    @field_validator("deny_list")
    @classmethod
    def rules_are_told_apart(cls, deny_list: DenyList) -> DenyList:
        rules = [each.rule for each in deny_list]
        if len(set(rules)) < len(rules):
            raise PydanticCustomError("rule_twice", "must list each rule at most once")
        if sum(len(each.phrases) for each in deny_list) > MAX_PHRASES:
            raise PydanticCustomError("too_many_phrases", "may hold at most {limit} phrases", {"limit": MAX_PHRASES})
        return deny_list

    @property
    def fail_open(self) -> bool:
        """Whether a text passes that could not be judged in time."""
        return self.on_timeout == "allow"
