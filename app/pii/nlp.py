"""Presidio's NLP engine over the tagger: what it marks reaches the recognizers that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from app.pii.language import SUPPORTED_LANGUAGES
from app.pii.presidio import NlpArtifacts, NlpEngine
from app.pii.reading import Reading
from app.pii.tagger import ENTITIES, Tagger, Tagging


class Tags(NlpArtifacts):
    """What the tagger made of a text. Presidio hands it on untouched to the recognizers."""

    def __init__(self, tagging: Tagging, engine: NlpEngine, language: str, reading: Reading | None = None) -> None:
        nothing: Any = []
        super().__init__(nothing, nothing, [], [], engine, language)
        self.tagging = tagging
        self.reading = reading


def reading_of(text: str, artifacts: NlpArtifacts | None) -> Reading:
    """Return the reading of a text that its recognizers share, or one of its own for a recognizer that runs alone."""
    return artifacts.reading if isinstance(artifacts, Tags) and artifacts.reading is not None else Reading(text)


def tagging_of(artifacts: NlpArtifacts | None) -> Tagging:
    """Return what the tagger made of a text; nothing for a recognizer that runs alone."""
    return artifacts.tagging if isinstance(artifacts, Tags) else Tagging([], 0)


class TaggerEngine(NlpEngine):
    """Safe to call from several threads at once."""

    def __init__(self, tagger: Tagger, budget: int) -> None:
        """Read at most `budget` sub-words of a text."""
        self._tagger = tagger
        self._budget = budget

    def load(self) -> None:
        """Nothing to load: the tagger is."""

    def is_loaded(self) -> bool:
        return True

    def read(self, text: str) -> tuple[Reading, Tagging]:
        """Return the reading of a text that its recognizers share, and what the tagger made of it."""
        reading = Reading(text)
        return reading, self._tagger.tag(text, self._budget, reading)

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        reading, tagging = self.read(text)
        return Tags(tagging, self, language, reading)

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: Any
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        for text in texts:
            yield text, self.process_text(text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        return False

    def is_punct(self, word: str, language: str) -> bool:
        return False

    def get_supported_entities(self) -> list[str]:
        return list(ENTITIES)

    def get_supported_languages(self) -> list[str]:
        return list(SUPPORTED_LANGUAGES)
