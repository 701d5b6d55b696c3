"""docs/observability.md names every metric with type and labels, and every alert with severity, and no other."""

from __future__ import annotations

import re

import pytest

from app.telemetry.metrics import REGISTRY
from tests.metric_values import labels_by_sample
from tests.monitoring import ROOT, rules

PAGE = (ROOT / "docs" / "observability.md").read_text()
ROW = re.compile(r"^\| `(?P<name>vigil_\w+)` \| (?P<type>\w+) \|(?P<labels>[^|]*)\| [^|]+ \|", re.MULTILINE)
ALERT = re.compile(
    r"^\| `(?P<name>Vigil\w+)` \| (?P<severity>\w+) \| [^|]+ \| \[[^\]]+\]\((?P<runbook>[^)]+)\) \|$", re.MULTILINE
)


def registered() -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of every metric of the service, by the name that a query uses."""
    labels = labels_by_sample()
    types = {family.name: family.type for family in REGISTRY.collect() if family.name.startswith("vigil_")}
    samples = {"counter": "_total", "histogram": "_count", "gauge": ""}
    return {
        name + ("_total" if kind == "counter" else ""): (kind, frozenset(labels[name + samples[kind]]))
        for name, kind in types.items()
    }


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    listed = {
        row["name"]: (row["type"], frozenset(re.findall(r"`(\w+)`", row["labels"]))) for row in ROW.finditer(PAGE)
    }
    assert listed == registered()


@pytest.mark.parametrize("branch", ["heuristics", "semantic", "classifier", "encoder", "pii", "stream"])
def test_the_first_failure_of_a_branch_is_an_increase(branch: str) -> None:
    assert REGISTRY.get_sample_value("vigil_branch_degraded_total", {"branch": branch}) is not None


def test_the_page_lists_every_alert_with_its_severity_and_runbook() -> None:
    listed = {row["name"]: (row["severity"], f"docs/{row['runbook']}") for row in ALERT.finditer(PAGE)}
    assert listed == {rule["alert"]: (rule["labels"]["severity"], rule["annotations"]["runbook"]) for rule in rules()}
