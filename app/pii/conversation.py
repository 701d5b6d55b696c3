"""Personal data of a chat: each message read for itself, all redacted as one, so that a name is the same everywhere."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from time import perf_counter
from typing import Final

from app.contracts import MAX_LISTED_SPANS, SOURCE_OF, MessageReport, PiiEntity, PiiReport, Source, Stretch
from app.pii.engine import PiiEngine
from app.pii.redaction import Redaction, Redactor, Span

SIGNS: Final = range(0x10FFFF, 0xFFFF, -1)
"""More code points than any text has, those without a meaning (Unicode's private use areas) first: one that no message
has stands between them meanwhile."""

_PARTS: Final = frozenset({"content", "text"})
"""Names under which parts hold any text."""
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class ConversationScan:
    report: PiiReport
    """Offsets are those of the whole text."""
    redaction: Redaction
    messages: list[MessageReport]
    kept: int
    log_text: str | None = field(repr=False)
    """The whole text with kept values, and those of messages that are left as they are, replaced too; None when there
    are none."""


def scan_conversation(
    engine: PiiEngine,
    text: str,
    conversation: Sequence[MessageReport],
    language: str | None,
    allow_list: Sequence[str],
    redactor: Redactor,
    *,
    patterns_only: bool = False,
) -> ConversationScan:
    """Find the personal data of all messages and redact it.

    Args:
        text: the conversation's text, of which `conversation` says where each message's texts stand.
        conversation: the messages.
        language, allow_list, redactor, patterns_only: as for `PiiEngine.scan`; the language is guessed for each text.

    Raises:
        Exception: whatever a recognizer or the model raises.
    """
    started = perf_counter()
    spans: list[Span] = []
    left: list[Span] = []
    used = language
    longest = -1
    for message in conversation:
        of_a_tool = message.call is not None or SOURCE_OF[message.role] is Source.TOOL
        pointers = message.call.pointers if message.call is not None else ()
        for (start, end), pointer in zip(message.texts, chain(pointers, repeat("")), strict=False):
            found, read_as = engine.find(
                text[start:end],
                language,
                allow_list,
                redactor.table,
                patterns_only=patterns_only,
                may_be_json=of_a_tool,
                name=_name_in(pointer),
            )
            in_place = [replace(span, start=span.start + start, end=span.end + start) for span in found]
            if message.left_as_it_is:
                left += in_place
                continue
            spans += in_place
            if end - start > longest:
                longest, used = end - start, read_as
    parted, separator = _parted(text, conversation)
    redaction = redactor.redact(parted, spans)
    report = PiiReport(
        scanned=True,
        scope="patterns" if patterns_only else "all",
        language=used,
        entities=_listed(spans, 0),
        count=len(spans),
        latency_ms=round((perf_counter() - started) * 1000, 3),
    )
    kept = [span for span in spans if redactor.table.keeps(span.entity)]
    log_text = None
    if kept or left:
        every = sorted([*spans, *left], key=lambda span: span.start)
        log_text = redactor.keeping_nothing().redact(parted, every).text.replace(separator, "\n")
    return ConversationScan(
        report,
        Redaction(redaction.text.replace(separator, "\n"), redaction.placeholders, redaction.backslash_is_text),
        _with_findings(text, conversation, spans, kept, report, redaction.text, separator),
        len(kept),
        log_text,
    )


def _name_in(pointer: str) -> str:
    """Return the last name of a JSON Pointer, which may tell what its text is; empty where it has none that does."""
    name = next((step for step in reversed(pointer.split("/")) if step and not step.isdigit()), "")
    return "" if len(name) > _LONGEST_NAME or name in _PARTS else name


def _parted(text: str, conversation: Sequence[MessageReport]) -> tuple[str, str]:
    """Return the text with a sign that it does not have in place of each line break between two texts."""
    present = set(text)
    separator = next(sign for sign in map(chr, SIGNS) if sign not in present)
    pieces: list[str] = []
    position = 0
    for start, end in (stretch for message in conversation for stretch in message.texts):
        pieces += separator * (start - position), text[start:end]
        position = end
    return "".join(pieces), separator


def _with_findings(
    text: str,
    conversation: Sequence[MessageReport],
    spans: Sequence[Span],
    kept: Sequence[Span],
    report: PiiReport,
    redacted: str,
    separator: str,
) -> list[MessageReport]:
    """Return the messages with what was found in each, and where its texts stand in the redacted text.

    All messages together list MAX_LISTED_SPANS entities, so that what they become fits a message of the queue.
    """
    starts, kept_starts = [span.start for span in spans], [span.start for span in kept]
    ends = [place for place, sign in enumerate(redacted) if sign == separator] + [len(redacted)]
    position = boundary = 0
    room = MAX_LISTED_SPANS
    messages = []
    for number, message in enumerate(conversation):
        if number:
            position, boundary = ends[boundary] + 1, boundary + 1  # The blank line between two messages.
        redacted_texts: list[Stretch] = []
        for _ in message.texts:
            redacted_texts.append((position, ends[boundary]))
            position, boundary = ends[boundary] + 1, boundary + 1
        first, last = bisect_right(starts, message.start - 1), bisect_right(starts, message.start + message.length)
        own = spans[first:last]
        listed = _listed(own[:room], message.start)
        room -= len(listed)
        changed = [redacted[a:b] for a, b in redacted_texts] != [text[a:b] for a, b in message.texts]
        messages.append(
            message.model_copy(
                update={
                    "pii": report.model_copy(update={"entities": listed, "count": len(own), "latency_ms": 0.0}),
                    "kept": bisect_right(kept_starts, message.start + message.length)
                    - bisect_right(kept_starts, message.start - 1),
                    "redacted": redacted_texts if changed else None,
                }
            )
        )
    return messages


def _listed(spans: Iterable[Span], start: int) -> list[PiiEntity]:
    return [
        PiiEntity(type=span.entity, start=span.start - start, end=span.end - start, score=round(span.score, 2))
        for span, _ in zip(spans, range(MAX_LISTED_SPANS), strict=False)
    ]
