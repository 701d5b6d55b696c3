"""Phrases that are allowed or denied whatever the models say: lists that a policy holds and detection carries out."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.bounds import at_most

MAX_PHRASES: Final = 500
"""Most phrases of one list. All are looked for in one pass, whose automaton grows with their number."""
MAX_PHRASE_LENGTH: Final = 256
MAX_RULES: Final = 100
"""Most rules of a deny list."""

Phrase = Annotated[str, StringConstraints(min_length=2, max_length=MAX_PHRASE_LENGTH, pattern=r"\S")]
Phrases = Annotated[tuple[Phrase, ...], Field(strict=False, max_length=MAX_PHRASES), at_most(MAX_PHRASES)]
RuleName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AllowList(Section):
    """What is never held against a text; compared without regard to case and the kind of white space."""

    texts: Phrases = ()
    """Whole texts that are never an attack."""
    phrases: Phrases = ()
    """Literal phrases that are left out of what detection judges; the rest of the text is judged as it stands."""
    values: Phrases = ()
    """Values that are never personal data, beside those that a request names."""


class DenyRule(Section):
    """Literal phrases that block every text they stand in."""

    rule: RuleName
    """Names the rule in findings and explanations."""
    phrases: Annotated[
        tuple[Phrase, ...], Field(strict=False, min_length=1, max_length=MAX_PHRASES), at_most(MAX_PHRASES)
    ]
    """Looked for as whole words in the text as the detectors read it: without regard to case, diacritics, look-alikes
    and hidden characters, and also in what was encoded."""


DenyList = Annotated[tuple[DenyRule, ...], Field(strict=False, max_length=MAX_RULES), at_most(MAX_RULES)]
NOTHING_ALLOWED: Final = AllowList()
