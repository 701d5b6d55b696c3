"""What all recognizers share: candidates with and without context words, in time linear in the text.

Presidio's own PatternRecognizer is not used: it skips a pattern that timed out and carries on, and several of its
patterns take quadratic time on hostile text.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from app.pii.letters import lowered
from app.pii.nlp import reading_of, tagging_of
from app.pii.presidio import LocalRecognizer, NlpArtifacts, RecognizerResult
from app.pii.reading import Anchored, Reading
from app.pii.tables import header_at, plain
from app.pii.tagger import Tagging

NOT_AFTER_ALNUM: Final = r"(?<![^\W_])"
"""The value does not start in the middle of a word or number; an underscore may stand before it."""
NOT_BEFORE_ALNUM: Final = r"(?![^\W_])"
_NON_DIGITS: Final = re.compile(r"[^0-9]+")
_NUMBER: Final = re.compile(r"[0-9]+")
_OF_A_THING_BEFORE: Final = re.compile(
    r"(?<![^\W_])(?:sku|part|item|model|order|ref|reference|ticket|case|serial|lot|batch|article|invoice|catalog(?:ue)?)"
    r"(?:[ ](?:no|number|id|code))?[^0-9A-Za-z\n]{1,4}\Z",
    re.IGNORECASE,
)
_COLUMN_OF_THINGS: Final = re.compile(
    r"sku|(?:part|item|model|order|article|product|catalog(?:ue)?)(?: ?(?:no\.?|number|id|code))?"
)
_LOOK_BACK: Final = 24


def digits_of(value: str) -> str:
    """Return the ASCII digits of a value without what stands between them."""
    return _NON_DIGITS.sub("", value)


def numbers_a_thing(reading: Reading, start: int) -> bool:
    """Whether the words right before a place, or the header of its column, say that the number of a thing, such as an
    order, begins there."""
    if _OF_A_THING_BEFORE.search(reading.text[max(0, start - _LOOK_BACK) : start]):
        return True
    return _COLUMN_OF_THINGS.fullmatch(plain(header_at(reading, start))) is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible value: code point offsets, end exclusive; scores from 0 to 1."""

    start: int
    end: int
    score: float
    score_in_context: float | None = None
    """The score when a context word stands nearby; None when context makes no difference."""


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """How far from a value a word is looked for that tells what the value is."""

    before: int = 60
    """Code points read before the value."""
    after: int = 25
    """Code points read after the value."""
    across_digits: bool = True
    """Whether a word counts although another number stands between it and the value."""


@dataclass(frozen=True, slots=True)
class ContextWords:
    """Words near a value that tell what it is."""

    pattern: re.Pattern[str]
    window: ContextWindow
    stems: tuple[str, ...]
    """What the pattern asks for, in small letters: one of them stands in every text that holds a match."""

    @classmethod
    def of(cls, stems: Iterable[str], window: ContextWindow) -> ContextWords:
        """Build from word beginnings, matched without regard to case; `$` at the end asks for the whole word."""
        stems = tuple(stems)
        alternatives = "|".join(
            re.escape(stem[:-1]) + NOT_BEFORE_ALNUM if stem.endswith("$") else re.escape(stem) for stem in stems
        )
        pattern = re.compile(f"{NOT_AFTER_ALNUM}(?:{alternatives})", re.IGNORECASE)
        return cls(pattern, window, tuple(lowered(stem.removesuffix("$")) for stem in stems))

    def may_stand_in(self, reading: Reading) -> bool:
        """Whether one may stand anywhere in a text: most texts full of numbers have none to look for near each."""
        return any(stem in reading.folded for stem in self.stems)

    def tell(self, reading: Reading, candidate: Candidate) -> bool:
        """Whether one stands near a candidate, or in the header of its column."""
        if self.near(reading.text, candidate.start, candidate.end):
            return True
        return self.pattern.search(header_at(reading, candidate.start)) is not None

    def near(self, text: str, start: int, end: int) -> bool:
        window = self.window
        preceding, following = text[max(0, start - window.before) : start], text[end : end + window.after]
        if not window.across_digits:
            preceding, following = _NUMBER.split(preceding)[-1], _NUMBER.split(following)[0]
        return bool(self.pattern.search(preceding) or self.pattern.search(following))


class TextRecognizer(LocalRecognizer):
    """A recognizer that reads the text alone; subclasses yield candidates."""

    entity: ClassVar[str]
    fewest_digits: ClassVar[int] = 0
    """Digits without which there is no value: a text with fewer is not read."""
    digits_in_a_row: ClassVar[int] = 1
    """How many of them stand side by side in each: most prompts have a year or a price, and no longer number."""
    context_window: ClassVar[ContextWindow | None] = None
    """None where context words make no difference."""

    def __init__(self, language: str, words: Sequence[str] = ()) -> None:
        """Make a recognizer for texts of one language; `words` are its context words, from pii.yaml."""
        window = self.context_window
        self.context_words = ContextWords.of(words, window) if window is not None and words else None
        self._least = 0.0
        super().__init__(supported_entities=[self.entity], supported_language=language)

    def report_from(self, score: float) -> None:
        """Leave out values of a lower score."""
        self._least = score
        self.score_thresholds = {self.entity: score}

    def load(self) -> None:
        """Nothing to load: patterns are compiled with their module."""

    @abstractmethod
    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        """Yield every possible value of the text, in time linear in its length."""

    def analyze(
        self, text: str, entities: Sequence[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        reading = reading_of(text, nlp_artifacts)
        return self.results_in(reading, tagging_of(nlp_artifacts)) if self.may_find_in(reading) else []

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        """Return the values of a text that has the digits for one, given what the tagger made of it."""
        return self._results(self.candidates(reading), reading)

    def may_find_in(self, reading: Reading) -> bool:
        """Whether a text has the digits without which there is no value."""
        fewest = self.fewest_digits
        return not fewest or (reading.digits >= fewest and reading.longest_number >= self.digits_in_a_row)

    def _results(self, candidates: Iterable[Candidate], reading: Reading) -> list[RecognizerResult]:
        """Score candidates; those below the entity's threshold, which Presidio would drop, are not handed to it."""
        results = []
        context = self.context_words
        may_tell: bool | None = None
        for candidate in candidates:
            score = candidate.score
            if context is not None and candidate.score_in_context is not None:
                may_tell = context.may_stand_in(reading) if may_tell is None else may_tell
                score = candidate.score_in_context if may_tell and context.tell(reading, candidate) else score
            if score >= self._least:
                results.append(self._result(candidate, score))
        return results

    def _result(self, candidate: Candidate, score: float) -> RecognizerResult:
        return RecognizerResult(
            entity_type=self.entity,
            start=candidate.start,
            end=candidate.end,
            score=score,
            recognition_metadata={
                RecognizerResult.RECOGNIZER_NAME_KEY: type(self).__name__,
                RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
            },
        )


class CheckedNumberRecognizer(TextRecognizer):
    """Recognizes numbers with a check digit that others have by chance: only next to a context word."""

    pattern: ClassVar[Anchored]
    score_in_context: ClassVar[float]

    @staticmethod
    @abstractmethod
    def is_valid(digits: str) -> bool:
        """Return whether the digits of a match are such a number."""

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in self.pattern.finditer(reading):
            if self.is_valid(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.1, score_in_context=self.score_in_context)
