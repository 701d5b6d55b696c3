"""Recognizes links that carry credentials, and those to somebody's profile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.words import words

_URL: Final = anchored(r"(?<![^\W_])[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'<>`]{4,2048}", needs=("://",))
_USER_AND_PASSWORD: Final = re.compile(r"[^/?#@:]{0,128}:[^/?#@]{1,256}@")
_SECRET_PARAMETER: Final = re.compile(
    r"[?&#;](?:[a-z0-9]{0,12}[_-]?)?(?:token|api[_-]?key|key|secret|password|passwd|pwd|pass|sig|signature|"
    r"auth|session|sid|haslo|code)"
    r"=(?![{$<*])[^&\s]{6,}",
    re.IGNORECASE,
)


_PROFILE: Final = anchored(
    r"(?<![\w.@/-])(?:https?://)?(?:[a-z]{1,12}\.)?(?:"
    r"linkedin\.(?:com|example\.com)/(?:in|pub)/|(?:reddit|old\.reddit)\.com/u(?:ser)?/|youtube\.com/@|tiktok\.com/@|"
    r"(?:medium|threads)\.(?:com|net)/@|(?:mastodon|mstdn)\.[a-z]{2,10}/@|(?:t|telegram)\.me/|"
    r"(?:instagram|facebook|twitter|x|snapchat|vk|pinterest|twitch|soundcloud|onlyfans|github|gitlab|fb|messenger)"
    r"\.(?:com|tv|me|example\.com)/(?:add/|u/)?)"
    r"(?P<name>[\w.-]{2,60})/?(?![\w/-])",
    re.IGNORECASE,
    needs=(".com/", ".net/", ".me/", ".tv/", "mastodon.", "mstdn."),
)
_NO_PROFILES: Final = words(
    "about help login signin signup join home search explore settings features pricing security topics trending "
    "marketplace events groups watch gaming reels stories p privacy terms legal policies developers docs jobs careers "
    "business ads hashtag share sharer intent i messages notifications collections sponsors enterprise "
    "customer-stories readme contact blog news download apps store business.php profile.php sharer.php"
)
"""First parts of paths that the networks keep for themselves."""


class CredentialUrlRecognizer(TextRecognizer):
    """A plain link is not personal data; one that logs somebody in is, and one to a person's page at a network is."""

    entity = "URL"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _URL.finditer(reading):
            url = match[0].rstrip(".,;:!?)]}")
            after_scheme = url.index("://") + 3
            if _USER_AND_PASSWORD.match(url, after_scheme) or _SECRET_PARAMETER.search(url, after_scheme):
                yield Candidate(match.start(), match.start() + len(url), score=0.97)
        for match in _PROFILE.finditer(reading):
            if match["name"].rstrip(".").lower() not in _NO_PROFILES:
                yield Candidate(match.start(), match.start() + len(match[0].rstrip(".,/")), score=0.85)
