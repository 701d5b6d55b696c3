"""Presidio's analyzer, imported without spaCy, which it names in engines that are not used here.

spaCy and thinc take most of the import's time (0.6 s) and memory (60 MB), and the pattern of Presidio's own recognizer
of web addresses, which lists all top-level domains, another 0.4 s. Where spaCy is loaded already, or where this way
fails with a later Presidio, it is imported as it comes.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

_logger: Final = logging.getLogger("vigil.pii")
_PACKAGE: Final = "presidio_analyzer"
_SPACY: Final = frozenset({"spacy", "thinc"})
_URL_RECOGNIZER: Final = "presidio_analyzer.predefined_recognizers.generic.url_recognizer"


def _is_left_out(module: str) -> bool:
    return module.partition(".")[0] in _SPACY or module == _URL_RECOGNIZER


class _AnyAttribute(type):
    def __getattr__(cls, name: str) -> Callable[..., Callable[[Any], Any]]:
        """Stand for a factory of decorators that register a class or function: what it decorates stays as it is."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda decorated: decorated


class _Unused(metaclass=_AnyAttribute):
    """Stands for a name of spaCy: good for annotations, base classes and decorators, which is all an import does."""


class _StandIns(MetaPathFinder, Loader):
    """Makes modules in which every public name is `_Unused`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if _is_left_out(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        def attribute(name: str) -> type[_Unused]:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Unused

        module.__dict__["__getattr__"] = attribute  # PEP 562


@contextmanager
def _without_spacy() -> Iterator[None]:
    finder = _StandIns()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget(_is_left_out)


def _forget(chosen: Callable[[str], bool]) -> None:
    for name in filter(chosen, list(sys.modules)):
        del sys.modules[name]


def _import_lightly() -> None:
    if _PACKAGE in sys.modules or _SPACY & set(sys.modules):
        return
    try:
        with _without_spacy():
            importlib.import_module(_PACKAGE)
    except Exception as error:  # noqa: BLE001 - whatever a later Presidio does with spaCy when it is imported
        _logger.warning("Presidio is imported with spaCy, which takes longer: %s", type(error).__name__)
        _forget(lambda name: name.partition(".")[0] == _PACKAGE)


_import_lightly()

# These come after the call that decides how.
from presidio_analyzer import (  # noqa: E402
    AnalyzerEngine,
    EntityRecognizer,
    LocalRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine  # noqa: E402
from presidio_analyzer.predefined_recognizers import CryptoRecognizer  # noqa: E402

__all__ = [
    "AnalyzerEngine",
    "CryptoRecognizer",
    "EntityRecognizer",
    "LocalRecognizer",
    "NlpArtifacts",
    "NlpEngine",
    "RecognizerRegistry",
    "RecognizerResult",
]
