"""What is done with each kind of personal data: the table that a policy holds and the redaction carries out."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

ActionName = Literal["replace", "mask", "hash", "remove", "keep"]
STRICTNESS: Final[tuple[ActionName, ...]] = ("keep", "mask", "hash", "replace", "remove")
"""From what leaves most of a value to what leaves least: a hash still tells that two texts name the same one."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EntityAction(Section):
    """What becomes of a value.

    `replace`: a typed placeholder, `<PERSON_1>`, the same for the same value; the only one that can be undone.
    `mask`: every letter and digit becomes `*`, but for the last `keep_last`, never more than half of them.
    `hash`: `<PERSON:0f1e2d3c4b5a>`, the same for the same value in every text under one key.
    `remove`: nothing.
    `keep`: the value stays; it is reported, and the event log holds a placeholder for it.
    """

    action: ActionName
    keep_last: Annotated[int, Field(ge=0, le=64)] = 0
    """Letters and digits at the end that `mask` leaves."""

    @model_validator(mode="after")
    def only_a_mask_leaves_an_end(self) -> Self:
        if self.keep_last and self.action != "mask":
            raise PydanticCustomError("keep_last_alone", "may have keep_last only with mask")
        return self

    @property
    def strictness(self) -> tuple[int, int]:
        """Orders actions: of two, the greater leaves less of a value."""
        return STRICTNESS.index(self.action), -self.keep_last


def _written_short(action: Any) -> Any:
    return {"action": action} if isinstance(action, str) else action


WrittenAction = Annotated[EntityAction, BeforeValidator(_written_short)]
"""`hash`, or with its number `{action: mask, keep_last: 4}`."""
REPLACE: Final = EntityAction(action="replace")
"""What is done where nothing else is said."""


class RedactionTable(Section):
    """An action for each kind of personal data, and one for those that are not named."""

    default: WrittenAction = REPLACE
    entities: dict[str, WrittenAction] = Field(default_factory=dict)

    def of(self, entity: str) -> EntityAction:
        return self.entities.get(entity, self.default)

    def keeps(self, entity: str) -> bool:
        """Whether values of this kind are left as they are."""
        return self.of(entity).action == "keep"

    def uses(self, action: ActionName) -> bool:
        return any(each.action == action for each in (self.default, *self.entities.values()))

    def keeping_nothing(self) -> RedactionTable:
        """Return the table with `replace` in place of `keep`: what may be stored of a text."""
        return RedactionTable(
            default=_not_kept(self.default),
            entities={entity: _not_kept(action) for entity, action in self.entities.items()},
        )


REPLACE_ALL: Final = RedactionTable()


def _not_kept(action: EntityAction) -> EntityAction:
    return REPLACE if action.action == "keep" else action
