"""Every path that the application serves needs the scope that the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.access.paths import SCOPES, judges, scope_of
from app.access.principal import Scope

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/guard", Scope.GUARD),
        ("/guard/batch", Scope.GUARD),
        ("/guard/01a21458-eb93-7abd-96c6-3096848fce76", Scope.GUARD),
        ("/restore", Scope.GUARD),
        ("/v1/guard", Scope.GUARD),
        ("/v2/guard", Scope.GUARD),
        ("/beta/litellm_basic_guardrail_api", Scope.GUARD),
        ("/presidio/analyze", Scope.GUARD),
        ("/events", Scope.EVENTS),
        ("/stats", Scope.EVENTS),
        ("/feedback", Scope.EVENTS),
        ("/admin/keys", Scope.ADMIN),
        ("/health", None),
        ("/health/ready", None),
        ("/livez", None),
        ("/readyz", None),
        ("/metrics", None),
        ("/docs", None),
        ("/openapi.json", None),
        ("/asyncapi.json", None),
        ("/assets/swagger.js", None),
        ("/", Scope.ADMIN),
        ("", Scope.ADMIN),
        ("//health", Scope.ADMIN),
        ("/Health", Scope.ADMIN),
        ("/healthy", Scope.ADMIN),
        ("/new-and-not-listed", Scope.ADMIN),
        ("guard", Scope.ADMIN),
    ],
)
def test_each_path_needs_its_scope_and_what_is_not_listed_needs_the_most(path: str, scope: Scope | None) -> None:
    assert scope_of(path) is scope


def test_the_documentation_names_what_a_key_for_the_guard_opens() -> None:
    row = next(
        line for line in (ROOT / "docs" / "access.md").read_text().splitlines() if line.startswith("| `guard` |")
    )
    named = set(re.findall(r"`/(\w+)`", row))
    assert named == {segment for segment, scope in SCOPES.items() if scope is Scope.GUARD}


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("POST", "/guard", True),
        ("POST", "/guard/batch", True),
        ("POST", "/v1/guard", True),
        ("GET", "/guard/01a21458-eb93-7abd-96c6-3096848fce76", False),
        ("POST", "/guard/01a21458-eb93-7abd-96c6-3096848fce76/feedback", False),
        ("POST", "/restore", False),
        ("POST", "/admin/keys", False),
    ],
)
def test_quotas_count_what_is_judged(method: str, path: str, counted: bool) -> None:
    assert judges(method, path) is counted
