"""Settings: environment over file over default; a fault is named, a value never repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from app.access.limits import Limits
from app.errors import ConfigurationError
from app.http.gate import presented_key
from app.secret_files import MAX_SECRET_FILE_BYTES
from app.settings import PrivacySettings, Settings, ignored_variables, load_settings
from app.topology import DETECTION_STREAM


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("NATS_", "CLICKHOUSE_", "VIGIL_"))]:
        monkeypatch.delenv(name)
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
        ("http:\n  timeout_s: .inf\n", "http.timeout_s: Input should be a finite number"),
        ("decisions:\n  ttl_s: .inf\n", "decisions.ttl_s: Input should be a finite number"),
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


@pytest.mark.parametrize(
    ("variable", "value"), [("RATE_PER_S", "1000001"), ("RATE_PER_S", "inf"), ("BURST", "1000000000001")]
)
def test_a_limit_that_no_key_could_have_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"VIGIL_ACCESS__{variable}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"access.{variable.lower()}: Input should be less than" in caught.value.message
    assert value not in caught.value.message


@pytest.mark.parametrize("value", ["1e-320", "0", "9e-10"])
def test_a_rate_after_which_nobody_could_be_told_when_to_come_back_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("VIGIL_ACCESS__RATE_PER_S", value)
    with pytest.raises(ConfigurationError, match="rate_per_s: Input should be greater than or equal to"):
        load_settings()
    with pytest.raises(ValidationError, match="rate_per_s"):
        Limits(rate_per_s=float(value))


@pytest.mark.parametrize(
    "key",
    ["k" * 513, "ł" * 32, "k" * 32 + "\u00a0k", "k" * 16 + "\x7f" + "k" * 16],
    ids=["too long", "not ASCII", "a space of another kind", "a control character"],
)
def test_an_admin_key_that_no_header_can_bring_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("VIGIL_ACCESS__ADMIN_KEY", key)
    with pytest.raises(ConfigurationError, match="number 1 must be at most 512 characters") as caught:
        load_settings().access.admin_secret()
    assert "access.admin_key" in caught.value.message
    assert key not in caught.value.message


@pytest.mark.parametrize("key", ["k" * 512, "a passphrase of a few plain words"])
def test_an_admin_key_that_a_header_can_bring_is_taken(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("VIGIL_ACCESS__ADMIN_KEY", key)
    assert load_settings().access.admin_secret() == key
    headers = [(b"authorization", f"Bearer {key}".encode())]
    assert presented_key({"type": "http", "path": "/admin/keys", "headers": headers}) == key


def test_the_largest_limits_of_all_callers_are_limits_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_ACCESS__RATE_PER_S", "1e6")
    monkeypatch.setenv("VIGIL_ACCESS__BURST", "1000000000000")
    access = load_settings().access
    assert Limits(rate_per_s=access.rate_per_s, burst=access.burst).burst_size == 10**12


def test_a_value_is_never_repeated(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("nats:\n  password: 5\n  replicas: kappa-omega-secret\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "kappa-omega" not in caught.value.message
    monkeypatch.delenv("VIGIL_CONFIG")
    monkeypatch.setenv("CLICKHOUSE_URL", "http://user:kappa-omega@host:8123")
    monkeypatch.setenv("NATS_URL", "nats://kappa-omega@host:4222")
    monkeypatch.setenv("VIGIL_NATS__USER", "vigil")
    monkeypatch.setenv("VIGIL_NATS__PASSWORD", "kappa-omega")
    load_settings.cache_clear()
    assert "kappa-omega" not in repr(load_settings())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'nats:\n  user: x\n  password: "s3cret', "own.yaml is no YAML at line 3"),
        (b"nats:\n  password: *s3cret\n", "own.yaml is no YAML at line 2"),
        (b"- s3cret\n- other\n", "own.yaml holds no settings"),
        (b"7", "own.yaml holds no settings"),
        (b"nats: {user: \xffs3cret}", "own.yaml holds no settings"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(config_file: Path, content: bytes, said: str) -> None:
    config_file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("variable", ["VIGIL_HTTP__CORS_ORIGINS", "VIGIL_NATS"])
def test_a_list_or_section_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "https://s3cret.example.com")
    with pytest.raises(ConfigurationError, match=rf"{variable}: a list or a section is written as JSON") as caught:
        load_settings()
    assert "s3cret" not in caught.value.message


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


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_hash_key_is_refused_by_name_and_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("VIGIL_PRIVACY__HASH_KEY", key)
    with pytest.raises(ConfigurationError, match=r"privacy\.hash_key: is empty"):
        load_settings()


def test_a_hash_key_that_is_not_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIGIL_PRIVACY__HASH_KEY", raising=False)
    assert load_settings().privacy.hash_key_bytes == b""


def secrets_of(model: type[BaseModel], section: str = "") -> Iterator[tuple[str, bool]]:
    """Return every secret setting, dotted, and whether it has a sibling that names a file."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from secrets_of(field.annotation, f"{section}{name}.")
        if SecretStr in (field.annotation, *get_args(field.annotation)):
            yield f"{section}{name}", f"{name}_file" in model.model_fields


SECRETS = dict(secrets_of(Settings))
WITH_SECRETS = {
    "nats.password": {"VIGIL_NATS__USER": "vigil"},
    "event_log.password": {"VIGIL_EVENT_LOG__USER": "vigil"},
}
"""What else must be set for a secret to be one."""


def variable(setting: str) -> str:
    return "CLICKHOUSE_URL" if setting == "clickhouse_url" else f"VIGIL_{setting.upper().replace('.', '__')}"


def value_of(settings: Settings, setting: str) -> Any:
    found: Any = settings
    for name in setting.split("."):
        found = getattr(found, name)
    return found


def test_every_secret_setting_can_come_from_a_file() -> None:
    assert len(SECRETS) >= 7
    assert [name for name, has_sibling in SECRETS.items() if not has_sibling] == []


@pytest.mark.parametrize("setting", SECRETS)
def test_a_secret_from_a_file_is_the_setting_and_is_shown_nowhere(
    setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("kappa-omega-secret-of-32-characters \n")
    monkeypatch.setenv(f"{variable(setting)}_FILE", str(tmp_path / "secret"))
    for name, value in WITH_SECRETS.get(setting, {}).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert value_of(settings, setting).get_secret_value().strip("\n") == "kappa-omega-secret-of-32-characters "
    assert "kappa" not in repr(settings) + str(settings)


def test_the_address_of_nats_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("nats://kappa-omega@host:4222\n")
    monkeypatch.setenv("NATS_URL_FILE", str(tmp_path / "secret"))
    assert load_settings().nats_url == "nats://kappa-omega@host:4222"
    assert "kappa" not in repr(load_settings())


def test_a_secret_file_may_stand_in_the_config_file(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kappa-omega")
    config_file.write_text(f"nats:\n  user: vigil\n  password_file: {tmp_path / 'secret'}\n")
    password = load_settings().nats.password
    assert password is not None
    assert password.get_secret_value() == "kappa-omega"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "nats.token_file: cannot be read: FileNotFoundError"),
        (b"", "nats.token_file: is empty"),
        (b"\n", "nats.token_file: is empty"),
        (b"kappa\xff", "nats.token_file: cannot be read: UnicodeDecodeError"),
        (b"kappa" * MAX_SECRET_FILE_BYTES, "nats.token_file: is larger than"),
    ],
    ids=["absent", "empty", "one line break", "not text", "too large"],
)
def test_a_secret_file_that_cannot_be_used_is_named_by_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("VIGIL_NATS__TOKEN_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_settings()
    assert "kappa" not in caught.value.message


def test_a_secret_that_is_set_twice_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kappa")
    monkeypatch.setenv("VIGIL_NATS__TOKEN", "omega")
    monkeypatch.setenv("VIGIL_NATS__TOKEN_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match=r"nats\.token_file: names a file while token is set too") as caught:
        load_settings()
    assert not {"kappa", "omega"} & set(caught.value.message.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nats:\n  user: a\n", r"nats\.password: is missing"),
        ("nats:\n  password: a\n", r"nats\.user: is missing"),
        ("nats:\n  user: a\n  password: b\n  token: c\n", r"nats\.token: cannot go with user"),
        ("nats:\n  nkey_seed: a\n  credentials_file: b\n", r"nats\.credentials_file: cannot go with nkey_seed"),
        ("nats:\n  tls:\n    cert_file: a\n", r"nats\.tls\.key_file: is missing"),
        ("event_log:\n  tls:\n    key_file: a\n", r"event_log\.tls\.cert_file: is missing"),
        ("event_log:\n  password: a\n", r"event_log\.user: is missing"),
    ],
)
def test_settings_that_do_not_go_together_are_named(config_file: Path, content: str, said: str) -> None:
    config_file.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        load_settings()


def test_full_texts_are_stored_only_with_a_number_of_days() -> None:
    assert PrivacySettings().store == "redacted"
    with pytest.raises(ValidationError, match="full_text_days"):
        PrivacySettings(store="full")
    assert PrivacySettings(store="full", full_text_days=7).full_text_days == 7


@pytest.mark.parametrize(
    "name", ["event_log.retention_days", "event_log.feedback_retention_days", "privacy.full_text_days"]
)
def test_a_time_to_keep_rows_that_clickhouse_cannot_reckon_with_is_refused(config_file: Path, name: str) -> None:
    section, field = name.split(".")
    config_file.write_text(f"{section}:\n  {field}: 36500\n")
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_decisions_are_kept_for_at_least_as_long_as_jetstream_drops_repeats(config_file: Path) -> None:
    window_s = DETECTION_STREAM.duplicate_window.total_seconds()
    config_file.write_text(f"decisions:\n  ttl_s: {window_s - 1}\n")
    with pytest.raises(ConfigurationError, match=r"decisions\.ttl_s"):
        load_settings()
    config_file.write_text(f"decisions:\n  ttl_s: {window_s}\n")
    assert load_settings().decisions.ttl_s == window_s


@pytest.mark.parametrize(
    ("name", "value", "ignored"),
    [
        ("VIGIL_HTTP_TIMEOUT_S", "2", True),
        ("VIGIL_HTPP__TIMEOUT_S", "2", True),
        ("VIGIL_NATS_URL", "nats://server:4222", True),
        ("vigil_log_level", "DEBUG", True),
        ("VIGIL_HTTP__TIMEOUT_S", "2", False),
        ("vigil_http__timeout_s", "2", False),
        ("VIGIL_HTTP", "{}", False),
        ("VIGIL_STATE_DIR", "state", False),
        ("VIGIL_CONFIG", "vigil.yaml", False),
        ("VIGIL_SERVICE_HOST", "10.0.0.1", False),
        ("VIGIL_PORT_8000_TCP_ADDR", "10.0.0.1", False),
        ("VIGIL_PORT", "tcp://10.0.0.1:8000", False),
        ("VIGIL_PORT", "9000", True),
        ("VIGILANCE", "1", False),
    ],
)
def test_a_variable_that_looks_like_a_setting_and_is_none_is_known(name: str, value: str, ignored: bool) -> None:
    assert ignored_variables({name: value}) == [name] * ignored
