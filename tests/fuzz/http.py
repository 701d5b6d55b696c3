"""Asks a running service whatever its OpenAPI document allows, and much that it does not (schemathesis).

For each operation: no 5xx, an answer of a status, type, shape and headers that the document names, what does not fit
the document refused, and no text of a request in a refusal. 503 and 504 are faults too, but where the request itself
leaves no time. Half of the requests that fit name things that exist (tests/fuzz/known.py), since nobody guesses an id.
Several processes share the examples; each share has a seed of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.known import NAMES, Known
from tests.running_service import CHECKOUT, RunningService

CHECKS: Final = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    allow_header_conformance,
]
SHORTEST_TEXT: Final = 6
"""Shorter strings stand in any answer by chance."""
METHODS: Final = ("TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "FROB")
KEPT: Final = 3
"""How many examples of one fault are shown."""
HURRIED_MS: Final = 5_000
"""A request that leaves less time may be answered 504, or 503 when its time is known not to do."""
SHARE: Final = 200
"""Examples that are tried at a time: all operations get one share before any gets its next."""


@dataclass
class Report:
    """What one operation answered, and what was wrong with it."""

    operation: str
    examples: int = 0
    left: int = 0
    """Shares that are still to come."""
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def blame(self, fault: str, example: str) -> None:
        self.counts[fault] += 1
        shown = self.faults.setdefault(fault, [])
        if len(shown) < KEPT:
            shown.append(example[:600])

    def add(self, other: Report) -> None:
        self.examples += other.examples
        self.statuses += other.statuses
        self.counts += other.counts
        for fault, examples in other.faults.items():
            self.faults[fault] = (self.faults.get(fault, []) + examples)[:KEPT]

    def lines(self) -> Iterator[str]:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        yield f"{self.operation:44} {self.examples:6}  {statuses}"
        for fault, examples in self.faults.items():
            yield f"    {fault} ({self.counts[fault]} times)"
            yield from (f"        {example}" for example in examples)


def run(service: RunningService, count: int, start: int, only: str | None = None, workers: int = 1) -> Iterator[Report]:
    """Try every operation of the document, or the one that `only` names.

    Yields the report of an operation after each of its shares; `left` says how many of them are still to come.
    """
    known = Known.make(service.url)
    sizes = [min(SHARE, count - begun) for begun in range(0, count, SHARE)]
    named = [name for name in _operations(service.url) if only in (None, name)]
    reports = {name: Report(name, left=len(sizes)) for name in named}
    share = partial(_share, service.url, known)
    # Each share of an operation has another seed, and the methods are tried with the first.
    shares = [(name, size, start + 1000 * number) for number, size in enumerate(sizes) for name in named]
    if workers == 1:
        found: Iterator[Report] = (share(*each) for each in shares)
        yield from _added(reports, found)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(share, *each) for each in shares]
        yield from _added(reports, (future.result() for future in as_completed(futures)))


def _added(reports: dict[str, Report], shares: Iterator[Report]) -> Iterator[Report]:
    for share in shares:
        report = reports[share.operation]
        report.add(share)
        report.left -= 1
        yield report


@cache
def _operations(url: str) -> dict[str, Any]:
    """Return the operations of the document by method and path, in its order."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


@cache
def _session() -> requests.Session:
    return requests.Session()


def _share(url: str, known: Known, name: str, count: int, start: int) -> Report:
    """Try one operation with so many examples of a seed."""
    report = Report(name)
    _try(_operations(url)[name], known, report, count, start)
    if start < 1000:
        _try_methods(_operations(url)[name], report, _session(), url)
    return report


@cache
def _vocabulary(url: str) -> str:
    # Hypothesis tries the strings of the code under test too; those stand in refusals by right.
    # An administrator who names a policy that does not exist is told which do.
    schema = next(iter(_operations(url).values())).schema.raw_schema
    return json.dumps(schema, ensure_ascii=False) + _own_words() + " ".join(NAMES)


def _try(operation: Any, known: Known, report: Report, count: int, start: int) -> None:
    session, vocabulary = _session(), _vocabulary(known.url)
    streams = operation.path.endswith("/stream")
    cases = st.builds(
        known.named, operation.as_strategy(generation_mode=GenerationMode.POSITIVE), st.integers(0, 2**16 - 1)
    )
    try:
        negative = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        negative.validate()
        cases = st.one_of(cases, negative)
    except Exception:  # noqa: BLE001, S110 - an operation without input has no input that does not fit
        pass

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def answer(case: Any) -> None:
        report.examples += 1
        try:
            response = case.call(session=session, timeout=60)
        except requests.exceptions.InvalidHeader:
            return
        report.statuses[response.status_code] += 1
        # A stream has answered 200 before it reads what does not fit; it says so in an event. What is too large is
        # refused before anybody looks whether it fits.
        unread = streams or response.status_code == 413
        checks = [each for each in CHECKS if not (unread and each is negative_data_rejection)]
        try:
            case.validate_response(response, checks=checks)
        except (FailureGroup, Failure) as group:
            for failure in getattr(group, "exceptions", (group,)):
                report.blame(f"{failure.title}: {str(failure.message)[:300]}", _shown(case, response))
        except AssertionError as failure:
            report.blame(str(failure)[:300], _shown(case, response))
        if response.status_code >= 500 and not _is_hurried(case.body):
            report.blame(f"answered {response.status_code}", _shown(case, response))
        if response.status_code >= 400:
            for text in _texts(case.body):
                if len(text) >= SHORTEST_TEXT and text in response.text and text not in vocabulary:
                    report.blame(
                        "a text of the request stands in the refusal", f"{text[:80]!r}: {_shown(case, response)}"
                    )

    answer()


def _is_hurried(body: Any) -> bool:
    """Whether a request, or one of a batch, gives the guard little time."""
    requests_of = body.get("requests", [body]) if isinstance(body, dict) else []
    times = [each.get("deadline_ms") for each in requests_of if isinstance(each, dict)]
    return any(isinstance(time_ms, int | float) and time_ms < HURRIED_MS for time_ms in times)


@cache
def _own_words() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "app").rglob("*.py"))


def _try_methods(operation: Any, report: Report, session: requests.Session, url: str) -> None:
    """Use the address with methods that nobody documented."""
    path = operation.path.replace("{request_id}", "11111111-1111-4111-8111-111111111111")
    for method in METHODS:
        status = session.request(method, url + path, timeout=60).status_code
        if status >= 500:
            report.blame(f"{method} is answered {status}", path)


def _shown(case: Any, response: Any) -> str:
    return f"{case.as_curl_command()[:350]!r} -> {response.status_code} {response.text[:200]!r}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "request_id":  # An id is named where the caller may look for it.
                continue
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
