"""Recognizes IPv4 and IPv6 addresses that can belong to somebody; version numbers and loopback are left alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer

_IPV4: Final = anchored(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-])(?!\.[0-9])", digit_within=0)
_IPV6: Final = anchored(
    r"(?<![\w:.])(?=[0-9A-Fa-f:]{0,5}:)[0-9A-Fa-f:]{3,39}(?:[0-9.]{1,15})?(?![\w:])",
    parts=(":",),
    before=5,
    before_with="0123456789ABCDEFabcdef:",
)
_VERSION_BEFORE: Final = re.compile(
    r"(?:version|build|release|ver|wersj\w|wersje|wydani\w|rev|firmware|kompilacj\w|==|>=|<=|~=|\bv)[ .:=]{0,3}$",
    re.IGNORECASE,
)
_LOOK_BACK: Final = 16


class IpAddressRecognizer(TextRecognizer):
    entity = "IP_ADDRESS"
    fewest_digits = 1

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _IPV4.finditer(reading):
            if _is_personal(match[0]) and not _VERSION_BEFORE.search(
                text[max(0, match.start() - _LOOK_BACK) : match.start()]
            ):
                yield Candidate(*match.span(), score=0.7)
        for match in _IPV6.finditer(reading):
            value = match[0].rstrip(".")
            if value.count(":") < 2:
                continue
            if _is_personal(value) and any(character.isdigit() for character in value):
                yield Candidate(match.start(), match.start() + len(value), score=0.7)


def _is_personal(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or value.startswith("255."))
