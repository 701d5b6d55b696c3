"""Takes out what no branch can read: beside much of it, the learned branches hardly see the words of a text."""

from __future__ import annotations

import re
from typing import Final

from app.detection.normalise.vocabulary import usual_share

WORDS_SHARE: Final = 0.5
"""Share of usual trigrams from which a long token is words, as an address is. Of stretches of 40 letters of English and
Polish texts 98 % have more, also without blanks and diacritics, and 1 % of those of base64."""
_TOKEN: Final = re.compile(r"(?<![a-z0-9+/_=\-])[a-z0-9+/_=\-]{40,}")
"""What base64, digests and keys look like in a canonical text."""
_LEFT_OVER: Final = re.compile(r"[^\w\s](?<=[ ]{8}.)(?=[ ]{8})")
"""A sign between two tokens that are out, such as the dots of a JSON Web Token: a canonical text has no such blanks."""
_STRETCH: Final = re.compile(r".{1,400}")
"""What of a token is told from words at a time, so that none hide behind noise."""


def without_noise(text: str) -> str:
    """Return a canonical text with blanks in place of long tokens that make no words, and as long as before.

    Returns the text itself where it has none.
    """
    quiet = _TOKEN.sub(lambda token: _STRETCH.sub(_blanked, token[0]), text)
    return _LEFT_OVER.sub(" ", quiet) if quiet != text else text


def _blanked(stretch: re.Match[str]) -> str:
    return stretch[0] if usual_share(stretch[0]) >= WORDS_SHARE else " " * len(stretch[0])
