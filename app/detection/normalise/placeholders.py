"""Placeholders of redacted text read as a name: the guard's own marks are no sign of an attack."""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

import numpy as np

from app.detection.normalise.offsets import Offsets, packed

STAND_IN: Final = "Anna"
"""What is read in a placeholder's place. Of twelve words tried in redacted sentences the one with the lowest scores."""
KINDS: Final = (
    "PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "URL",
    "CRYPTO", "PL_PESEL", "PL_NIP", "PL_REGON", "PL_ID_CARD", "PL_PASSPORT", "PASSPORT", "DRIVER_LICENSE",
    "PL_LAND_REGISTER", "PL_KRS", "UK_NINO", "UK_NHS", "VEHICLE_PLATE", "DATE_OF_BIRTH", "MAC_ADDRESS",
    "PL_PWZ", "UK_UTR", "US_TAX_ID", "MEDICAL_RECORD", "INSURANCE_NUMBER", "VEHICLE_IDENTIFICATION_NUMBER", "IMEI",
    "STREET_ADDRESS", "ZIP_CODE", "API_KEY", "PASSWORD", "LOCATION", "DATE_TIME", "USERNAME", "AGE", "NRP",
)  # fmt: skip
"""Kinds of personal data, by the names of config/pii.yaml, and no others: `<IGNORE_ALL_RULES_1>` would be an order."""
_PLACEHOLDER: Final = re.compile(rf"<(?:{'|'.join(KINDS)})(?:_[0-9]{{1,4}}|:[0-9a-f]{{12}})>")


def read_as_names(visible: str) -> tuple[str, Offsets]:
    """Return the text with a name in place of each placeholder, and its offsets in the text that was given."""
    spans = [match.span() for match in _PLACEHOLDER.finditer(visible)] if "<" in visible else []
    if not spans:
        return visible, range(len(visible) + 1)
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(visible)]
    kept = list(zip(starts, ends, strict=True))
    text = STAND_IN.join(visible[start:end] for start, end in kept)
    places: list[range | list[int]] = []
    for (start, end), (placeholder, _) in zip(kept, [*spans, (len(visible), 0)], strict=True):
        places += [range(start, end), [placeholder] * len(STAND_IN)]
    places[-1] = [len(visible)]
    return text, packed(np.fromiter(chain.from_iterable(places), np.uint32))
