"""Shows that alert rules and dashboards ask for what the service exposes, and that each alert says what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from inspect import getmembers, isclass
from typing import Any

import pytest
import yaml

from app import errors
from app.contracts import Verdict
from app.errors import Overloaded, VigilError
from app.topology import BUCKET_PREFIX, BUCKETS, CONSUMERS
from tests.metric_values import labels_by_sample
from tests.monitoring import (
    ALERTS,
    ROOT,
    Question,
    dashboards,
    panels,
    promql_questions,
    rules,
    sql_questions,
    taken_apart,
)
from tests.unit.test_docs import anchors_of

TARGET_LABELS = {"job", "instance"}
"""Prometheus adds them to all that it scrapes."""
OF_PROMETHEUS = {"up": TARGET_LABELS}
PROMTOOL = shutil.which("promtool")
PROMQL = promql_questions()
BOARDS = dashboards()


@pytest.mark.parametrize("question", PROMQL, ids=[question.place for question in PROMQL])
def test_a_query_names_metrics_and_labels_that_exist(question: Question) -> None:
    known = OF_PROMETHEUS | labels_by_sample()
    asked = taken_apart(question.text).metrics
    assert asked
    for metric, labels in asked.items():
        assert metric in known, metric
        assert labels <= known[metric] | TARGET_LABELS, f"{metric}: {labels - known[metric]}"
    shown = set(re.findall(r"\{\{(\w+)\}\}", question.legend))
    assert shown <= set().union(*(known[metric] for metric in asked)) | TARGET_LABELS


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum by (mode) (rate(vigil_request_total[5m]))", "vigil_request_total"),
        ("sum by (modus) (rate(vigil_requests_total[5m]))", "modus"),
        ('rate(vigil_requests_total{color="red"}[5m])', "color"),
        ("histogram_quantile(0.9, sum by (le) (vigil_requests_total))", "le"),
        ("sum by (color) (vigil_requests_total and on (instance) vigil_nats_connected == 1)", "color"),
        ("sum by (mode) (vigil_requests_total and on (mode) vigil_nats_connected == 1)", "mode"),
    ],
)
def test_what_does_not_exist_is_noticed(expression: str, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        test_a_query_names_metrics_and_labels_that_exist(Question("", expression))


def test_a_query_that_is_no_promql_is_noticed() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        taken_apart("sum by (rate(vigil_requests_total[5m])")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Vigil[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, heading = rule["annotations"]["runbook"].partition("#")
    assert heading in anchors_of(ROOT / page)
    metrics = set().union(*(set(labels) for labels in taken_apart(rule["expr"]).metrics.values()))
    told = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
    assert set(told) <= metrics | TARGET_LABELS


def test_the_alert_of_failing_requests_knows_every_code_that_is_no_fault_of_a_caller() -> None:
    known = [error for _, error in getmembers(errors, isclass) if issubclass(error, VigilError)]
    failing = {error.code for error in known if error.status >= 500} - {Overloaded.code}
    [rule] = [rule for rule in rules() if rule["alert"] == "VigilFailing"]
    [named] = re.findall(r'code=~"([^"]*)"', rule["expr"])
    assert named.split("|") == sorted(failing)


def test_the_alert_of_failing_requests_lets_no_refusal_of_a_caller_make_the_share_small() -> None:
    [rule] = [rule for rule in rules() if rule["alert"] == "VigilFailing"]
    assert rule["expr"].count("vigil_request_errors_total") == 1


def test_the_alert_of_buckets_leaves_out_those_that_let_their_oldest_go() -> None:
    [rule] = [rule for rule in rules() if rule["alert"] == "VigilBucketNearlyFull"]
    short_lived = {bucket.stream for bucket in BUCKETS if bucket.short_lived}
    assert set(re.findall(r'stream!="([^"]*)"', rule["expr"])) == short_lived
    assert {bucket.stream.startswith(BUCKET_PREFIX) for bucket in BUCKETS} == {True}
    assert set(re.findall(r'stream=~"([^"]*)"', rule["expr"])) == {f"{BUCKET_PREFIX}.*"}


@pytest.mark.parametrize("alert", ["VigilDeadLetters", "VigilLagGrowing"])
def test_an_alert_that_looks_back_compares_a_replica_with_itself(alert: str) -> None:
    """A replica without the server tells nothing now, and its earlier samples must not count against the others."""
    [rule] = [rule for rule in rules() if rule["alert"] == alert]
    assert rule["expr"].count("max by (consumer)") == 1


def test_every_alert_is_shown_to_fire_and_to_keep_quiet() -> None:
    cases = yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text())["tests"]
    fires, quiet = set(), set()
    for case in cases:
        for alert in case.get("alert_rule_test", ()):
            (fires if alert.get("exp_alerts") else quiet).add(alert["alertname"])
        for expression in case.get("promql_expr_test", ()):
            fires.update(re.findall(r'alertname="(\w+)"', str(expression["exp_samples"])))
    assert fires == quiet == {rule["alert"] for rule in rules()}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; the parser above has read every rule")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=["check", "test"]
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    found = subprocess.run([str(PROMTOOL), *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_prometheus_reads_the_rules_where_compose_mounts_them() -> None:
    config = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]
    mounted = dict(volume.split(":")[:2] for volume in compose["volumes"])
    assert {f"./config/prometheus/{name}" for name in config["rule_files"]} <= mounted.keys()
    for name in ("prometheus.yml", *config["rule_files"]):
        assert mounted[f"./config/prometheus/{name}"] == f"/etc/prometheus/{name}"


def test_grafana_finds_every_dashboard_and_every_source() -> None:
    provisioning = ROOT / "config" / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "vigil.yaml").read_text())["providers"][0]
    sources = yaml.safe_load((provisioning / "datasources" / "vigil.yaml").read_text())["datasources"]
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    mounted = {target: source for source, target in (str(volume).split(":")[:2] for volume in volumes)}
    assert mounted[provider["options"]["path"]] == "./config/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./config/grafana/provisioning"
    used = {
        (asked["datasource"]["type"], asked["datasource"]["uid"])
        for board in BOARDS.values()
        for panel in panels(board)
        for asked in (panel, *panel["targets"])
    }
    assert used == {(source["type"], source["uid"]) for source in sources}


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    board = BOARDS[name]
    shown = panels(board)
    assert len(shown) >= 12
    assert max(Counter(panel["id"] for panel in board["panels"]).values()) == 1
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in shown)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        columns, lines = (range(place[start], place[start] + place[size]) for start, size in (("x", "w"), ("y", "h")))
        cells = {(x, y) for x in columns for y in lines}
        assert max(columns) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_tells_how_many_messages_may_be_out_for_work() -> None:
    [panel] = [panel for panel in panels(BOARDS["service.json"]) if "ack_pending" in str(panel["targets"])]
    told = re.findall(r"\d[\d,]*", panel["description"])
    assert told == [f"{most:,}" for most in {spec.max_ack_pending for spec in CONSUMERS}]


def test_the_dashboard_shows_of_a_policy_on_trial_what_differs() -> None:
    [panel] = [panel for panel in panels(BOARDS["service.json"]) if panel["title"].endswith("on trial that differ")]
    decisions = {verdict.value for verdict in Verdict} - {Verdict.EXPIRED}
    asked = re.findall(r'\{decision="(\w+)", shadow_decision!="(\w+)", instance', panel["targets"][0]["expr"])
    assert sorted(asked) == sorted((decision, decision) for decision in decisions)
    assert panel["targets"][0]["expr"].count("vigil_shadow_decisions_total") == len(decisions)


def test_dashboards_have_names_of_their_own() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len({board["title"] for board in BOARDS.values()}) == 2


@pytest.mark.parametrize("question", sql_questions(), ids=lambda question: question.place)
def test_no_panel_for_analysts_shows_a_text(question: Question) -> None:
    assert not re.search(
        r"redacted_text|sanitized_text|explanations|metadata|comment|\btext\b|SELECT \*", question.text
    )
