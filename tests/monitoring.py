"""What dashboards and alert rules ask for: their queries, taken apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[1]
DASHBOARDS = ROOT / "config" / "grafana" / "dashboards"
ALERTS = ROOT / "config" / "prometheus" / "alerts.yml"
PARTS = ("lhs", "rhs", "expr", "vector_selector", "args", "param")
"""Attributes of the parser's nodes that hold further nodes."""
SET_OPERATORS = {"and", "unless"}


@dataclass(frozen=True)
class Question:
    """One query and where it stands."""

    place: str
    text: str
    legend: str = ""


@dataclass
class Asked:
    """The metrics of a query, with the labels that it matches or groups by."""

    metrics: dict[str, set[str]] = field(default_factory=dict)


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promql_questions() -> list[Question]:
    """Return every PromQL query of dashboards and rules, with Grafana's variables filled in."""
    asked = [Question(f"alerts.yml: {rule['alert']}", rule["expr"]) for rule in rules()]
    for name, board in dashboards().items():
        for panel in panels(board):
            asked += [
                Question(f"{name}: {panel['title']}", filled_in(target["expr"]), target.get("legendFormat", ""))
                for target in panel["targets"]
                if "expr" in target
            ]
        for variable in board["templating"]["list"]:
            found = re.fullmatch(r"label_values\((?P<metric>.+), (?P<label>\w+)\)", variable.get("definition", ""))
            if found:
                asked.append(Question(f"{name}: variable", f"sum by ({found['label']}) ({found['metric']})"))
    return asked


def filled_in(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


def sql_questions() -> list[Question]:
    """Return every ClickHouse query of the dashboards, with Grafana's macros still in it."""
    asked = []
    for name, board in dashboards().items():
        for panel in panels(board):
            asked += [
                Question(f"{name}: {panel['title']}", target["rawSql"])
                for target in panel["targets"]
                if "rawSql" in target
            ]
        asked += [
            Question(f"{name}: {variable['name']}", variable["query"])
            for variable in board["templating"]["list"]
            if isinstance(variable["query"], str)
        ]
    return asked


def taken_apart(expression: str) -> Asked:
    """Parse a query.

    Raises:
        ValueError: it is no PromQL.
    """
    asked = Asked()
    _walk(promql_parser.parse(expression), set(), asked)
    return asked


def _walk(node: Any, grouped: set[str], asked: Asked) -> None:
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        grouped = grouped | set(modifier.labels)
    if isinstance(node, promql_parser.VectorSelector):
        matched = {matcher.name for matcher in node.matchers.matchers}
        asked.metrics.setdefault(node.name, set()).update(matched | grouped)
        return
    if isinstance(node, promql_parser.BinaryExpr) and str(node.op) in SET_OPERATORS:
        # The right side only chooses among the left one's samples, so nothing of it is grouped.
        matching = modifier.matching if modifier is not None else None
        _walk(node.lhs, grouped | set(matching.labels if matching is not None else ()), asked)
        _walk(node.rhs, set(matching.labels if matching is not None else ()), asked)
        return
    for part in _parts(node):
        _walk(part, grouped, asked)


def _parts(node: Any) -> Iterator[Any]:
    for name in PARTS:
        part = getattr(node, name, None)
        yield from part if isinstance(part, list) else () if part is None else (part,)
