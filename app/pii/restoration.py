"""Puts personal data back into a text, in place of the placeholders that a redaction gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.errors import PayloadTooLarge
from app.pii.placeholders import mentions
from app.pii.redaction import Placeholder

MAX_RESTORED_LENGTH: Final = 1_000_000
"""Longest restored text in code points, ten times the longest that is guarded: a long value may be asked for often."""


@dataclass(frozen=True, slots=True)
class Restoration:
    text: str = field(repr=False)
    restored: int
    """How many places of the text were filled."""
    missing: list[str]
    """Placeholders that the text does not have, as the redaction wrote them."""


def restore(text: str, placeholders: Sequence[Placeholder], *, backslash_is_text: bool = False) -> Restoration:
    """Return the text with every known placeholder, however a model wrote it, replaced by its value.

    All places are filled at once: what a value looks like is never read again. A placeholder that stands as often as
    in the redacted text gets at each place the spelling that stood there, otherwise the first one everywhere.

    Raises:
        PayloadTooLarge: the restored text would be longer than MAX_RESTORED_LENGTH.
    """
    known = {(each.entity, each.number): each for each in placeholders}
    found = [
        mention
        for mention in mentions(text, {each.entity for each in placeholders}, backslash_is_text=backslash_is_text)
        if (mention.entity, mention.number) in known
    ]
    times = Counter((mention.entity, mention.number) for mention in found)
    seen: Counter[tuple[str, int]] = Counter()
    pieces: list[str] = []
    position = 0
    for mention in found:
        key = (mention.entity, mention.number)
        placeholder = known[key]
        same = len(placeholder.order) == times[key]
        pieces += text[position : mention.start], placeholder.spellings[placeholder.order[seen[key]] if same else 0]
        seen[key] += 1
        position = mention.end
    pieces.append(text[position:])
    if sum(map(len, pieces)) > MAX_RESTORED_LENGTH:  # Before they are joined: until here a value exists once.
        raise PayloadTooLarge(f"the restored text would be longer than {MAX_RESTORED_LENGTH} characters", field="text")
    return Restoration(
        text="".join(pieces),
        restored=len(found),
        missing=[each.name for key, each in known.items() if key not in times],
    )
