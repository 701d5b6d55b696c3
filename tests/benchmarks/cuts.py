"""Streams answers cut at every place of their values, in several processes, and counts what leaks.

Each answer is streamed one character a chunk, which cuts every value everywhere, and then for each place in and at the
ends of its values: cut there alone, and cut there by a pause, in which whole sentences are let out without looking
ahead. The redactor and the recognizers are the service's. Many of these streams come to read the very same window: of
one answer, each window is read once, since what is found depends on the window alone (a test streams answers with and
without that).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from app.pii.engine import PiiEngine
from app.pii.redaction import Redactor, Span
from app.redaction import REPLACE_ALL, RedactionTable
from app.streaming.redaction import Finder, Rules, StreamRedactor
from tests.unit.streaming.answers import ALLOWED_PART, Answer, found_values, leaked_part

ANSWERS_AT_ONCE = 5
"""Answers that a process takes at a time."""

_engine: PiiEngine | None = None
"""Of this worker process."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was streamed and what leaked of it: all counts."""

    answers: int = 0
    streams: int = 0
    values: int = 0
    leaked: int = 0
    """Values of which a stream showed more than ALLOWED_PART characters, once for each such stream."""
    longest_part: int = 0
    """Most characters of a value that stood in what a stream showed; letters that the text also has elsewhere count."""
    unlike_one_piece: int = 0
    """Streams whose text differs from what the answer becomes in one piece."""

    def __add__(self, other: Leaks) -> Leaks:
        return Leaks(
            self.answers + other.answers,
            self.streams + other.streams,
            self.values + other.values,
            self.leaked + other.leaked,
            max(self.longest_part, other.longest_part),
            self.unlike_one_piece + other.unlike_one_piece,
        )


@dataclass
class ReadOnce:
    """A finder that reads no window a second time."""

    finder: Finder
    _found: dict[tuple[object, ...], tuple[list[Span], str]] = field(default_factory=dict)

    def find(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        table: RedactionTable = REPLACE_ALL,
        *,
        patterns_only: bool = False,
    ) -> tuple[list[Span], str]:
        assert table is REPLACE_ALL
        key = (text, language, tuple(allow_list), patterns_only)
        if key not in self._found:
            self._found[key] = self.finder.find(text, language, allow_list, table, patterns_only=patterns_only)
        return self._found[key]


def leaks(answers: Iterable[Answer], processes: int) -> Leaks:
    """Stream answers in this many processes, each with its own recognizers."""
    # Not forked: threads of the encoder's runtime would not be there in the copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_load) as pool:
        return sum(pool.map(_leaks_of, answers, chunksize=ANSWERS_AT_ONCE), Leaks())


def leaks_of(answer: Answer, finder: Finder, engine: PiiEngine) -> Leaks:
    """Stream one answer in every way; `finder` reads the streams, `engine` the answer in one piece."""
    whole = engine.scan(answer.text, None, []).redacted_text
    values = found_values(answer, whole)
    outcomes = list(streamed(answer, finder, engine.entities))
    parts = [leaked_part(value, shown) for shown in outcomes for value in values]
    return Leaks(
        answers=1,
        streams=len(outcomes),
        values=len(values),
        leaked=sum(part > ALLOWED_PART for part in parts),
        longest_part=max(parts, default=0),
        unlike_one_piece=sum(shown != whole for shown in outcomes),
    )


def streamed(answer: Answer, finder: Finder, entities: frozenset[str]) -> Iterator[str]:
    """Yield what each stream of an answer shows."""
    text = answer.text

    def fresh() -> StreamRedactor:
        return StreamRedactor(finder, Rules(Redactor(), entities=entities))

    redactor = fresh()
    yield "".join([*map(redactor.feed, text), redactor.finish()])
    places = sorted({place for start, end in answer.values for place in range(start, end + 1)})
    for place in places:
        redactor = fresh()
        yield redactor.feed(text[:place]) + redactor.feed(text[place:]) + redactor.finish()
        redactor = fresh()
        before = redactor.feed(text[:place]) + redactor.pause()
        yield before + redactor.feed(text[place:]) + redactor.finish()


def _load() -> None:
    global _engine
    _engine = PiiEngine.load()


def _leaks_of(answer: Answer) -> Leaks:
    assert _engine is not None
    return leaks_of(answer, ReadOnce(_engine.for_parts()), _engine)
