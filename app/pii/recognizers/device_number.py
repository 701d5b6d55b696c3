"""Recognizes identities of mobile devices: the 15 digits of an IMEI, the last of them a check digit, and the 16 of an
IMEISV."""

from __future__ import annotations

from typing import Final

from app.pii.checksums import is_device_number
from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, CheckedNumberRecognizer, ContextWindow

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])(?:[0-9]{{15,16}}|[0-9]{{6}}([ /-])[0-9]{{2}}\1[0-9]{{6}}\1[0-9]{{1,2}}|"
    rf"[0-9]{{2}}([ /-])[0-9]{{6}}\2[0-9]{{6}}\2[0-9]{{1,2}}){NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=2,
)


class DeviceNumberRecognizer(CheckedNumberRecognizer):
    """Without a context word nothing is flagged: cards have 15 and 16 digits and the same check."""

    entity = "IMEI"
    fewest_digits = 15
    digits_in_a_row = 6
    context_window = ContextWindow(before=40, after=10)
    pattern = _NUMBER
    is_valid = staticmethod(is_device_number)
    score_in_context = 0.97
