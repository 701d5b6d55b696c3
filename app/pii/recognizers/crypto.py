"""Recognizes wallet addresses of cryptocurrencies by their own checksums."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from app.pii.presidio import CryptoRecognizer
from app.pii.reading import Reading, in_stretches
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer

_BASE58_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58: Final = re.compile(rf"{NOT_AFTER_ALNUM}[13DLMT][{_BASE58_ALPHABET}]{{25,34}}{NOT_BEFORE_ALNUM}")
_BECH32: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:bc|tb|ltc)1[02-9ac-hj-np-z]{{20,83}}{NOT_BEFORE_ALNUM}", re.IGNORECASE
)
_ETHEREUM: Final = re.compile(rf"{NOT_AFTER_ALNUM}0x[0-9a-fA-F]{{40}}{NOT_BEFORE_ALNUM}")
_PAYLOAD_BYTES: Final = 21
_CHECK_BYTES: Final = 4


class WalletRecognizer(TextRecognizer):
    """Bitcoin, Litecoin, Dogecoin and Tron (Base58Check or Bech32), and Ethereum by its shape."""

    entity = "CRYPTO"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in in_stretches(_BASE58, reading):
            if _is_base58check(match[0]):
                yield Candidate(*match.span(), score=1.0)
        for match in in_stretches(_BECH32, reading):
            if CryptoRecognizer.validate_bech32_address(match[0])[0]:  # type: ignore[no-untyped-call]
                yield Candidate(*match.span(), score=1.0)
        for match in in_stretches(_ETHEREUM, reading):
            yield Candidate(*match.span(), score=0.7)


def _is_base58check(address: str) -> bool:
    """Whether the last four bytes are the double SHA-256 of the rest (the Bitcoin wiki's Base58Check encoding)."""
    number = 0
    for character in address:
        number = number * 58 + _BASE58_ALPHABET.index(character)
    if number.bit_length() > 8 * (_PAYLOAD_BYTES + _CHECK_BYTES):
        return False
    decoded = number.to_bytes(_PAYLOAD_BYTES + _CHECK_BYTES, "big")
    payload, check = decoded[:_PAYLOAD_BYTES], decoded[_PAYLOAD_BYTES:]
    return hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:_CHECK_BYTES] == check
