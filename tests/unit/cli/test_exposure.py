"""`vigil doctor --security` lists what is open, and is silent on the production example."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.commands import vigil
from app.cli.diagnosis import Finding, Level
from app.cli.exposure import open_points, variable
from app.settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[3] / "config" / "production.env.example"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("NATS_", "CLICKHOUSE_", "VIGIL_")) or name == "HOST"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VIGIL_STATE_DIR", str(tmp_path / "state"))
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The environment of the example, its secrets drawn; returns their folder."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) > 10
    for line in lines:
        name, _, value = line.partition("=")
        if value.startswith("/run/secrets/"):
            path = folder / Path(value).name
            if not path.exists():
                path.write_text(secrets.token_hex(32))
                path.chmod(0o400)
            value = str(path)
        monkeypatch.setenv(name, value)
    return folder


def found(host: str = "127.0.0.1") -> list[Finding]:
    load_settings.cache_clear()
    return open_points(load_settings(), host)


def said(findings: list[Finding], check: str, level: Level) -> str:
    assert all(finding.cure for finding in findings)
    return " ".join(finding.seen for finding in findings if (finding.check, finding.level) == (check, level))


def test_the_production_example_is_closed_wherever_it_listens(production: Path) -> None:
    assert found("0.0.0.0") == []  # noqa: S104 - what is asked about
    result = CliRunner().invoke(vigil, ["doctor", "--security", "--host", "0.0.0.0"])  # noqa: S104
    assert (result.exit_code, result.output) == (0, "")


def test_every_setting_of_the_example_exists(production: Path) -> None:
    names = set(re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    known = {variable(name) for name in setting_names()}
    assert names - known == set()


def setting_names(model: type = Settings, section: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        if hasattr(field.annotation, "model_fields"):
            yield from setting_names(field.annotation, f"{section}{name}.")
        yield f"{section}{name}"


def test_nothing_configured_is_for_trying_out_and_says_so() -> None:
    findings = found()
    assert "while there is no key" in said(findings, "callers", Level.WARNING)
    assert "while there is no key" in said(found("10.0.0.1"), "callers", Level.FAILURE)
    assert "a single copy" in said(findings, "message server", Level.WARNING)
    assert "one process of one machine" in said(findings, "event log", Level.WARNING)
    assert re.search("no hash key.* no restore key", said(findings, "privacy", Level.WARNING))
    assert not any(finding.level is Level.FAILURE for finding in findings)


def test_an_admin_key_closes_the_service_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_ACCESS__ADMIN_KEY", secrets.token_hex(32))
    assert not [finding for finding in found("10.0.0.1") if finding.check == "callers"]


@pytest.mark.parametrize(
    ("environment", "check", "level", "expected"),
    [
        ({"VIGIL_ACCESS__MODE": "open"}, "callers", Level.FAILURE, "without a key"),
        ({"NATS_URL": "nats://nats.example.com:4222"}, "message server", Level.FAILURE, "in the clear"),
        ({"NATS_URL": "nats.example.com"}, "message server", Level.FAILURE, "in the clear"),
        ({"NATS_URL": "tls://nats.example.com:4222"}, "message server", Level.FAILURE, "signs in as nobody"),
        ({"NATS_URL": "tls://nats.example.com:4222"}, "message server", Level.WARNING, "one copy"),
        ({"VIGIL_NATS__EMBEDDED_HOST": "0.0.0.0"}, "message server", Level.FAILURE, "beyond this machine"),  # noqa: S104
        ({"CLICKHOUSE_URL": "http://vigil:x@ch.example.com"}, "event log", Level.FAILURE, "in the clear"),
        ({"CLICKHOUSE_URL": "https://vigil@ch.example.com"}, "event log", Level.FAILURE, "without a password"),
        ({"CLICKHOUSE_URL": "https://ch.example.com"}, "event log", Level.WARNING, "signs in as `default`"),
        (
            {"CLICKHOUSE_URL": "https://ch.example.com", "VIGIL_EVENT_LOG__TLS__VERIFY": "false"},
            "event log", Level.FAILURE, "any certificate",
        ),
        ({"VIGIL_PRIVACY__HASH_KEY": "kappa-omega"}, "secrets", Level.WARNING, "VIGIL_PRIVACY__HASH_KEY has 11"),
        (
            {"VIGIL_NATS__USER": "vigil", "VIGIL_NATS__PASSWORD": "ChangeMe"},
            "secrets", Level.FAILURE, "VIGIL_NATS__PASSWORD is a word",
        ),
        ({"NATS_URL": "nats://vigil:secret@127.0.0.1"}, "secrets", Level.FAILURE, "NATS_URL is a word"),
        (
            {"NATS_URL": f"nats://vigil:secret@127.0.0.1,nats://vigil:{'x' * 24}@127.0.0.2"},
            "secrets",
            Level.FAILURE,
            "NATS_URL is a word",
        ),
        ({"CLICKHOUSE_URL": "https://vigil:kappa@ch.example.com"}, "secrets", Level.WARNING, "CLICKHOUSE_URL has 5"),
        (
            {"VIGIL_NATS__TOKEN": "kappa-omega" * 4, "VIGIL_PRIVACY__HASH_KEY": "kappa-omega" * 4},
            "secrets", Level.WARNING, "VIGIL_NATS__TOKEN, VIGIL_PRIVACY__HASH_KEY are the same",
        ),
        ({"VIGIL_TRACING__ENDPOINT": "http://collector.example.com:4318"}, "tracing", Level.WARNING, "in the clear"),
        ({"VIGIL_LOG__LEVEL": "DEBUG"}, "log", Level.WARNING, "DEBUG"),
    ],
)  # fmt: skip
def test_what_is_open_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], check: str, level: Level, expected: str
) -> None:
    assert expected not in said(found(), check, level)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    findings = found()
    assert expected in said(findings, check, level)
    shown = json.dumps([[finding.seen, finding.cure] for finding in findings])
    assert "kappa" not in shown
    assert "ChangeMe" not in shown


def test_one_password_at_all_addresses_of_a_setting_is_no_shared_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", ",".join(f"nats://vigil:{'x' * 24}@127.0.0.{number}" for number in (1, 2)))
    assert [each for each in found() if each.check == "secrets"] == []


@pytest.mark.parametrize(
    "address",
    ["nats://127.0.0.1:4222", "nats://vigil:secret@localhost", "nats://[::1]:4222", "nats://[::ffff:127.0.0.1]:4222"],
)
def test_this_machine_needs_no_tls(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NATS_URL", address)
    monkeypatch.setenv("CLICKHOUSE_URL", "http://vigil:secret@127.0.0.1:8123")
    assert not [finding for finding in found() if "in the clear" in finding.seen]


@pytest.mark.parametrize(
    ("mode", "level"),
    [(0o400, None), (0o440, None), (0o404, Level.FAILURE), (0o602, Level.FAILURE), (0o660, Level.WARNING)],
)
def test_files_that_others_can_read_are_named(production: Path, mode: int, level: Level | None) -> None:
    file = production / "hash-key"
    file.chmod(mode)
    findings = found()
    assert [finding.level for finding in findings] == ([level] if level else [])
    assert all("VIGIL_PRIVACY__HASH_KEY_FILE" in finding.seen and str(file) in finding.seen for finding in findings)
    assert file.read_text() not in json.dumps([finding.seen for finding in findings])


def test_a_state_folder_that_others_can_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "clickhouse"
    folder.mkdir(parents=True, mode=0o755)
    assert "every user of this machine can read" in said(found(), "files", Level.FAILURE)
    folder.chmod(0o700)
    assert said(found(), "files", Level.FAILURE) == ""


def test_the_command_ends_with_1_where_something_is_open_and_prints_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "nats://vigil:kappa-omega@nats.example.com:4222")
    result = CliRunner().invoke(vigil, ["doctor", "--security", "-j"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["secure"]) == (1, False)
    load_settings.cache_clear()
    shown = CliRunner().invoke(vigil, ["doctor", "--security"]).output
    assert "What to do" in shown
    assert "kappa" not in result.output + shown
