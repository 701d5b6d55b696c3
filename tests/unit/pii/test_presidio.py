"""Presidio is imported without spaCy, which takes most of its time, and as it comes where that cannot be."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
from app.pii.engine import PiiEngine
assert PiiEngine.load().scan("Anna Nowak lives in Leeds.", None, []).report.count
"""
FAILS_ONCE = """
import sys
class FailsOnce:
    def find_spec(self, name, path, target=None):
        if name == "presidio_analyzer.nlp_engine":
            sys.meta_path.remove(self)
            raise RuntimeError("a later Presidio")
sys.meta_path.insert(0, FailsOnce())
"""
NOT_LOADED = "assert not {'spacy', 'thinc'} & set(sys.modules)\n"
REAL = "import spacy.tokens\nassert spacy.tokens.Doc.__module__ == 'spacy.tokens.doc'\n"
OWN_ENGINES_WORK = """
from presidio_analyzer.nlp_engine import SpacyNlpEngine, spacy_nlp_engine
from presidio_analyzer.predefined_recognizers import UrlRecognizer
assert spacy_nlp_engine.spacy is sys.modules["spacy"] and UrlRecognizer.PATTERNS
"""


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stderr


def test_the_engine_loads_without_spacy_and_leaves_it_to_others() -> None:
    run(LOADED + NOT_LOADED + REAL)


def test_where_spacy_is_loaded_already_presidio_is_whole() -> None:
    run(REAL + LOADED + OWN_ENGINES_WORK)


def test_a_presidio_that_cannot_do_without_spacy_gets_it_and_that_is_said() -> None:
    assert "imported with spaCy, which takes longer: RuntimeError" in run(FAILS_ONCE + LOADED + OWN_ENGINES_WORK)
