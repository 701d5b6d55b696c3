"""Settings: environment over file over default; a fault is named, a value never repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.settings import load_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (
        "NATS_URL", "CLICKHOUSE_URL", "VIGIL_CONFIG", "VIGIL_HTTP__TIMEOUT_S", "VIGIL_CANARIES", "VIGIL_CANARIES_FILE",
        "VIGIL_PRIVACY__RESTORE_KEY", "VIGIL_PRIVACY__RESTORE_KEY_FILE",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own.yaml"
    monkeypatch.setenv("VIGIL_CONFIG", str(path))
    return path


def test_nothing_configured_means_embedded_parts() -> None:
    settings = load_settings()
    assert settings.nats_url is None
    assert settings.clickhouse_url is None
    assert settings.http.timeout_s == 5


def test_the_file_stands_over_the_default_and_the_environment_over_the_file(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text("http:\n  timeout_s: 3\n  text_limit: 10\nnats_url: nats://file:4222\n")
    monkeypatch.setenv("VIGIL_HTTP__TIMEOUT_S", "2")
    monkeypatch.setenv("NATS_URL", "nats://environment:4222")
    settings = load_settings()
    assert settings.http.timeout_s == 2
    assert settings.http.text_limit == 10
    assert settings.nats_url == "nats://environment:4222"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("http:\n  timeout_s: -1\n", "http.timeout_s"),
        ("http:\n  time_out: 1\n", "http.time_out"),
        ("unknown: 1\n", "unknown"),
        ("workers:\n  retry_delays_s: []\n", "workers.retry_delays_s"),
        ("nats:\n  replicas: 9\n", "nats.replicas"),
        ("event_log:\n  database: 'a; DROP'\n", "event_log.database"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(config_file: Path, content: str, named: str) -> None:
    config_file.write_text(content)
    with pytest.raises(ConfigurationError, match=named):
        load_settings()


def test_a_value_is_never_repeated(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("nats:\n  password: 5\n  replicas: kappa-omega-secret\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "kappa-omega" not in caught.value.message
    monkeypatch.delenv("VIGIL_CONFIG")
    monkeypatch.setenv("CLICKHOUSE_URL", "http://user:kappa-omega@host:8123")
    monkeypatch.setenv("VIGIL_NATS__PASSWORD", "kappa-omega")
    load_settings.cache_clear()
    assert "kappa-omega" not in repr(load_settings())


def test_a_config_file_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIGIL_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_settings()


def test_canaries_come_from_the_environment_and_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_settings().planted_canaries() == ()
    load_settings.cache_clear()
    (tmp_path / "canaries").write_text("canary-two\r\n\ncanary-three\ncanary-one\n")
    monkeypatch.setenv("VIGIL_CANARIES", " canary-one , canary two,\ncanary-two")
    monkeypatch.setenv("VIGIL_CANARIES_FILE", str(tmp_path / "canaries"))
    assert load_settings().planted_canaries() == ("canary-one", "canary two", "canary-two", "canary-three")


@pytest.mark.parametrize("canaries", ["kappa-omega-1,kappa", "kappa-omega-1," + "kappa-omega" * 40])
def test_a_canary_that_cannot_be_used_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch, canaries: str) -> None:
    monkeypatch.setenv("VIGIL_CANARIES", canaries)
    with pytest.raises(ConfigurationError, match="canaries: number 2") as caught:
        load_settings().planted_canaries()
    assert "kappa" not in caught.value.message
    assert "kappa" not in repr(load_settings())


def test_a_canary_file_that_cannot_be_read_is_named_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIGIL_CANARIES_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="canaries_file: cannot be read"):
        load_settings().planted_canaries()


def test_restore_keys_come_from_the_environment_and_then_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().privacy.restore_keys() == ()
    load_settings.cache_clear()
    first, second, third = (f"kappa-omega-secret-of-32-characters-{number}" for number in (1, 2, 3))
    (tmp_path / "keys").write_text(f"{third}\n{first}\n")
    monkeypatch.setenv("VIGIL_PRIVACY__RESTORE_KEY", f"{first}, {second}")
    monkeypatch.setenv("VIGIL_PRIVACY__RESTORE_KEY_FILE", str(tmp_path / "keys"))
    assert load_settings().privacy.restore_keys() == tuple(key.encode() for key in (first, second, third))
    assert "kappa-omega" not in repr(load_settings())


def test_a_restore_key_that_is_too_short_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_PRIVACY__RESTORE_KEY", "kappa-omega-secret-of-32-characters,kappa-omega")
    with pytest.raises(ConfigurationError, match=r"privacy\.restore_key: number 2 .* not 11") as caught:
        load_settings().privacy.restore_keys()
    assert "kappa" not in caught.value.message


def test_a_restore_key_file_that_cannot_be_read_is_named_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIGIL_PRIVACY__RESTORE_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"privacy\.restore_key_file: cannot be read"):
        load_settings().privacy.restore_keys()
