"""Asks a running service whatever its OpenAPI document allows, and much that it does not (schemathesis).

For each operation: no 5xx, an answer of a status, type, shape and headers that the document names, what does not fit
the document refused, and no text of a request in a refusal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
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

from tests.running_service import CHECKOUT, RunningService

CHECKS: Final = [
    not_a_server_error,
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


@dataclass
class Report:
    """What one operation answered, and what was wrong with it."""

    operation: str
    examples: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def blame(self, fault: str, example: str) -> None:
        self.counts[fault] += 1
        shown = self.faults.setdefault(fault, [])
        if len(shown) < KEPT:
            shown.append(example[:600])

    def lines(self) -> Iterator[str]:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        yield f"{self.operation:44} {self.examples:6}  {statuses}"
        for fault, examples in self.faults.items():
            yield f"    {fault} ({self.counts[fault]} times)"
            yield from (f"        {example}" for example in examples)


def run(service: RunningService, count: int, start: int, only: str | None = None) -> Iterator[Report]:
    """Try every operation of the document, or the one that `only` names."""
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    with requests.Session() as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            report = Report(f"{operation.method.upper()} {operation.path}")
            if only is None or only == report.operation:
                _try(operation, report, session, count, start)
                _try_methods(operation, report, session, service.url)
                yield report


def _try(operation: Any, report: Report, session: requests.Session, count: int, start: int) -> None:
    # Hypothesis tries the strings of the code under test too; those stand in refusals by right.
    vocabulary = json.dumps(operation.schema.raw_schema, ensure_ascii=False) + _own_words()
    streams = operation.path.endswith("/stream")
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
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
        # A stream has answered 200 before it reads what does not fit; it says so in an event.
        checks = [each for each in CHECKS if not (streams and each is negative_data_rejection)]
        try:
            case.validate_response(response, checks=checks)
        except (FailureGroup, Failure) as group:
            for failure in getattr(group, "exceptions", (group,)):
                report.blame(f"{failure.title}: {str(failure.message)[:300]}", _shown(case, response))
        except AssertionError as failure:
            report.blame(str(failure)[:300], _shown(case, response))
        if response.status_code >= 400:
            for text in _texts(case.body):
                if len(text) >= SHORTEST_TEXT and text in response.text and text not in vocabulary:
                    report.blame(
                        "a text of the request stands in the refusal", f"{text[:80]!r}: {_shown(case, response)}"
                    )

    answer()


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
