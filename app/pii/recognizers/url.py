"""Recognizes links that carry credentials: a password before the host, or a secret among the parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.recognizers.base import Candidate, TextRecognizer

_URL: Final = re.compile(r"(?<![^\W_])[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'<>`]{4,2048}")
_USER_AND_PASSWORD: Final = re.compile(r"[^/?#@:]{0,128}:[^/?#@]{1,256}@")
_SECRET_PARAMETER: Final = re.compile(
    r"[?&#;](?:[a-z0-9]{0,12}[_-]?)?(?:token|api[_-]?key|key|secret|password|passwd|pwd|pass|sig|signature|"
    r"auth|session|sid|haslo|code)"
    r"=(?![{$<*])[^&\s]{6,}",
    re.IGNORECASE,
)


class CredentialUrlRecognizer(TextRecognizer):
    """A plain link is not personal data; one that logs somebody in is."""

    entity = "URL"

    def candidates(self, text: str) -> Iterable[Candidate]:
        for match in _URL.finditer(text):
            url = match[0].rstrip(".,;:!?)]}")
            after_scheme = url.index("://") + 3
            if _USER_AND_PASSWORD.match(url, after_scheme) or _SECRET_PARAMETER.search(url, after_scheme):
                yield Candidate(match.start(), match.start() + len(url), score=0.97)
