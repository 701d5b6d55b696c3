"""What Presidio's anonymizer does: each kind of value replaced, removed, masked or hashed as a request says."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from app.contracts import Anonymized, AnonymizedItem, AnonymizeJob, Anonymizer
from app.pii.redaction import Span, resolve_overlaps

DEFAULT: Final = "DEFAULT"
REPLACE: Final = Anonymizer()


def anonymize(job: AnonymizeJob) -> Anonymized:
    """Carry out a job; entities may overlap, and lie inside the text.

    Where they overlap, every letter and digit that one of them covers is changed.
    """
    salt = secrets.token_hex(16)
    spans = resolve_overlaps(job.text, (Span(each.type, each.start, each.end, each.score) for each in job.entities))
    pieces: list[str] = []
    items: list[AnonymizedItem] = []
    position = length = 0
    for span in spans:
        anonymizer = job.anonymizers.get(span.entity) or job.anonymizers.get(DEFAULT) or REPLACE
        before = job.text[position : span.start]
        value = _changed(job.text[span.start : span.end], span.entity, anonymizer, salt)
        start = length + len(before)
        length = start + len(value)
        pieces += before, value
        items.append(
            AnonymizedItem(start=start, end=length, entity_type=span.entity, text=value, operator=anonymizer.action)
        )
        position = span.end
    pieces.append(job.text[position:])
    return Anonymized(text="".join(pieces), items=items[::-1])


def _changed(value: str, entity: str, anonymizer: Anonymizer, salt: str) -> str:
    match anonymizer.action:
        case "replace":
            return anonymizer.new_value or f"<{entity}>"
        case "redact":
            return ""
        case "keep":
            return value
        case "mask":
            return _masked(value, anonymizer)
        case "hash":
            salted = f"{anonymizer.salt or salt}{value}".encode("utf-8", "surrogatepass")
            return hashlib.new(anonymizer.hash_type, salted).hexdigest()


def _masked(value: str, anonymizer: Anonymizer) -> str:
    hidden = len(value) if anonymizer.chars_to_mask is None else min(anonymizer.chars_to_mask, len(value))
    mask = anonymizer.masking_char * hidden
    return value[: len(value) - hidden] + mask if anonymizer.from_end else mask + value[hidden:]
