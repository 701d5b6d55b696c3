"""Finds and replaces the personal data of a text: Presidio's analyzer with this project's recognizers."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final, get_args

from app.contracts import MAX_LISTED_SPANS, PiiEntity, PiiReport
from app.pii.composing import composed
from app.pii.config import EntityName, PiiConfig, read_names, read_pii_config
from app.pii.json_text import fitted, unescaped
from app.pii.language import SUPPORTED_LANGUAGES, guess_language
from app.pii.letters import lowered
from app.pii.redaction import NAME_ENTITIES, Redaction, Redactor, Span, placeholders, resolve_overlaps, strictest
from app.redaction import REPLACE_ALL, RedactionTable
from app.settings import default_config_dir
from app.tool_arguments import is_json_container

if TYPE_CHECKING:
    from app.pii.assembly import Analyzers, LinearAnalyzer
    from app.pii.presidio import RecognizerResult

_LOGIN: Final = "USERNAME"
_KINDS: Final = frozenset(get_args(EntityName))
_DIGIT: Final = re.compile("[0-9]")
_ENDING: Final = re.compile(r"[^\W\d_]{1,5}")
"""Letters with which a language inflects a name, as Polish `-owie`: a model glues them to a placeholder."""
_LONGEST_NAMED: Final = 200
"""Code points of a text that is read with the name it stands under: a longer one has words of its own around values."""
_FALLBACK_LANGUAGE: Final = "en"
"""Used for every language without recognizers of its own: patterns are the same, names are read in English."""

REPLACING: Final = Redactor()
"""Replaces every value, as policies do that say nothing else."""


@dataclass(frozen=True, slots=True)
class PiiScan:
    """What one scan gives: the report without any text, and the text after what the table says of each value."""

    report: PiiReport
    redaction: Redaction
    kept: int = 0
    """How many of the found values the table leaves."""
    log_text: str | None = None
    """The text with those replaced too: what may be stored of it; None when none was left."""

    @property
    def redacted_text(self) -> str:
        return self.redaction.text


class PiiEngine:
    """Synchronous and safe to call from several threads; all that it loads is loaded in `load`."""

    def __init__(self, analyzers: Analyzers, config: PiiConfig, default_language: str) -> None:
        self._analyzers = analyzers
        self._config = config
        self._default_language = _supported(default_language)

    @property
    def entities(self) -> frozenset[str]:
        """Names of the entities that are looked for."""
        return frozenset(entity for entity, each in self._config.entities.items() if each.enabled)

    @classmethod
    def load(cls, default_language: str = "en", config_dir: Path | None = None) -> PiiEngine:
        """Read the configuration, load the model and build the recognizers; takes seconds, uses no network.

        Raises:
            ConfigurationError: a file is missing or does not fit its schema; names the field.
            ModelUnavailable: a model file cannot be read.
        """
        from app.pii.assembly import build_analyzers

        folder = config_dir or default_config_dir()
        config = read_pii_config(folder)
        return cls(build_analyzers(config, read_names(folder)), config, default_language)

    def scan(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        redactor: Redactor = REPLACING,
        *,
        patterns_only: bool = False,
        may_be_json: bool = False,
    ) -> PiiScan:
        """Find personal data and redact it.

        Args:
            text: at most the guard's text limit; 100,000 code points of anything take less than two seconds.
            language: ISO 639-1 code; guessed between English and Polish when None. Any other language is read
                with the same patterns and tagger as English; the report says "en".
            allow_list: values that stay, whatever they look like; compared without regard to case.
            redactor: what is done with each value; replaces all by default.
            patterns_only: leave out names, places and all else that only the words around it tell.
            may_be_json: read a text that is a JSON object or list, or several behind each other (JSON Lines), as such,
                with its escapes undone, also those of JSON inside its strings, and replace inside of strings and whole
                numbers alone: it is JSON still.

        Raises:
            Exception: whatever a recognizer or the model raises. A failure is never reported as "nothing found".
        """
        started = perf_counter()
        spans, used = self.find(
            text, language, allow_list, redactor.table, patterns_only=patterns_only, may_be_json=may_be_json
        )
        report = PiiReport(
            scanned=True,
            scope="patterns" if patterns_only else "all",
            language=used,
            entities=[
                PiiEntity(type=span.entity, start=span.start, end=span.end, score=round(span.score, 2))
                for span in spans[:MAX_LISTED_SPANS]
            ],
            count=len(spans),
            latency_ms=round((perf_counter() - started) * 1000, 3),
        )
        kept = sum(redactor.table.keeps(span.entity) for span in spans)
        return PiiScan(
            report,
            redactor.redact(text, spans),
            kept,
            redactor.keeping_nothing().redact(text, spans).text if kept else None,
        )

    def find(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        table: RedactionTable = REPLACE_ALL,
        *,
        patterns_only: bool = False,
        may_be_json: bool = False,
        name: str = "",
    ) -> tuple[list[Span], str]:
        """Return all values, in order and without overlaps, and the language the text was read in; see `scan`.

        Args:
            name: under which the text stands in a JSON object: a short one is read as that object is.
        """
        is_json = may_be_json and is_json_container(text)
        said, written_at = unescaped(text) if is_json else (text, None)
        read, places = composed(said)
        used = guess_language(read, self._default_language) if language is None else _supported(language)
        analyzer = self._analyzers.patterns if patterns_only else self._analyzers.everything
        if name and not is_json and len(read) <= _LONGEST_NAMED and "\n" not in read:
            spans = self._found_under(name, read, analyzer, used)
        else:
            spans = _spans(analyzer.found_in(read, used))
        spans = _without_allowed(read, _outside_placeholders(read, spans), allow_list)
        resolved = strictest(resolve_overlaps(read, spans), spans, table)
        for each in (places, written_at):
            if each is not None:
                resolved = [replace(span, start=each[span.start], end=each[span.end]) for span in resolved]
        return fitted(text, resolved) if is_json else resolved, used

    def _found_under(self, name: str, text: str, analyzer: LinearAnalyzer, language: str) -> list[Span]:
        """Return what is found in a text as the value of a JSON object, and what has a shape whatever the name says:
        a phone's number in the note of an order."""
        opening = f'{{"{name}": "'
        found = _spans(analyzer.found_in(f'{opening}{text}"}}', language))
        placed = ((span, span.start - len(opening), span.end - len(opening)) for span in found)
        cut = [replace(span, start=max(0, start), end=min(len(text), end)) for span, start, end in placed]
        bare = _spans(self._analyzers.patterns.found_in(text, language)) if _DIGIT.search(text) else []
        return [*(span for span in cut if span.start < span.end), *bare]

    def for_parts(self) -> PiiEngine:
        """Return an engine for texts that go on, as streams do; it shares the model.

        What was let out cannot be called back, so names, places and the like count that only more text would make sure.
        """
        analyzers = self._analyzers
        return PiiEngine(analyzers._replace(everything=analyzers.parts), self._config, self._default_language)

    def kinds(self, language: str | None = None) -> list[str]:
        """Return the kinds that are looked for in texts of a language, or of any."""
        wanted = SUPPORTED_LANGUAGES if language is None else (_supported(language),)
        return sorted(
            entity
            for entity, each in self._config.entities.items()
            if any(each.is_read_in(each_language) for each_language in wanted)
        )

    def recognizers(self, language: str | None = None) -> list[str]:
        """Return the names of the recognizers that read texts of a language, or of any."""
        wanted = SUPPORTED_LANGUAGES if language is None else (_supported(language),)
        found = (each for code in wanted for each in self._analyzers.everything.get_recognizers(code))
        return sorted({type(each).__name__ for each in found})


def _supported(language: str) -> str:
    return language if language in SUPPORTED_LANGUAGES else _FALLBACK_LANGUAGE


def _spans(found: Iterable[RecognizerResult]) -> list[Span]:
    return [Span(result.entity_type, result.start, result.end, float(result.score)) for result in found]


def _outside_placeholders(text: str, spans: list[Span]) -> list[Span]:
    """Drop names that the text's own placeholders were taken for, or the small letters of an ending behind one; numbers
    inside brackets are still numbers, and "<anna_99>" is somebody's login."""
    found = placeholders(text)
    if not found:
        return spans
    taken = _Intervals(found)
    own = [(start, end) for start, end in found if text[start + 1 : end].rpartition("_")[0] in _KINDS]
    issued = _Intervals(own)
    endings = {end for _, end in own}

    def is_own(span: Span) -> bool:
        if span.entity not in NAME_ENTITIES:
            return span.entity == _LOGIN and issued.hold(span)
        ending = text[span.start : span.end]
        return taken.hold(span) or (
            span.start in endings and ending.islower() and _ENDING.fullmatch(ending) is not None
        )

    return [span for span in spans if not is_own(span)]


def _without_allowed(text: str, spans: list[Span], allow_list: Sequence[str]) -> list[Span]:
    """Drop every span that lies inside an occurrence of an allowed value."""
    if not spans or not allow_list:
        return spans
    small = lowered(text)
    allowed = _Intervals(
        interval
        for value in {composed(value)[0].strip().lower() for value in allow_list}
        for interval in _occurrences(small, value)
    )
    return [span for span in spans if not allowed.hold(span)]


def _occurrences(text: str, value: str) -> Iterable[tuple[int, int]]:
    start = text.find(value) if value else -1
    while start != -1:
        yield start, start + len(value)
        start = text.find(value, start + 1)


class _Intervals:
    """Answers whether a span lies wholly inside one of many intervals, in time logarithmic in their number."""

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(intervals)
        self._starts = [start for start, _ in ordered]
        self._farthest_ends = list(accumulate((end for _, end in ordered), max))

    def hold(self, span: Span) -> bool:
        started = bisect_right(self._starts, span.start)
        return started > 0 and self._farthest_ends[started - 1] >= span.end
