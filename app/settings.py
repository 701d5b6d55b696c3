"""One typed settings tree: environment over config file over default; every setting documented once, here.

Nested names join with two underscores: `VIGIL_HTTP__TIMEOUT_S=2`. NATS_URL and CLICKHOUSE_URL carry no prefix.
Every secret setting has a sibling with `_FILE` behind its name, which names a file that holds it:
`VIGIL_NATS__PASSWORD_FILE=/run/secrets/nats`.
The config file is YAML, named by VIGIL_CONFIG; without it the configuration folder's `vigil.yaml` is read if it exists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from app.chat import MAX_MESSAGES
from app.contracts import MAX_AMOUNT, MAX_CANARY_LENGTH, MAX_RATE_PER_S, MIN_CANARY_LENGTH, MIN_RATE_PER_S
from app.errors import ConfigurationError
from app.secret_files import SecretFiles, SecretList, check_length, check_sendable, fault_of, secrets_in
from app.topology import DETECTION_STREAM

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PACKAGE_DIR = Path(__file__).parent
PREFIX: Final = "VIGIL_"
NO_SETTINGS: Final = frozenset({"VIGIL_CONFIG", "VIGIL_URL", "VIGIL_API_KEY"})
"""What begins as settings do and is read elsewhere: where the config file is, and what `vigil mcp` needs."""
OF_KUBERNETES: Final = re.compile("_SERVICE_(HOST|PORT)|_PORT_[0-9]+_")
"""What a container is given for each service of its namespace, of which one may be named `vigil`."""


def default_config_dir() -> Path:
    """Return `config/` of the checkout, or the copy inside an installed wheel."""
    checkout = PACKAGE_DIR.parent / "config"
    return checkout if checkout.is_dir() else PACKAGE_DIR / "_config"


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
RetentionDays = Annotated[int, Field(ge=1, le=50 * 365)]
"""ClickHouse counts the seconds since 1970 at which a row ends in 32 bits, which are full in 2106: it takes a later end
for one that has passed, and drops the row at once."""
ShownText = Annotated[str, Field(min_length=1, max_length=500)]


class Section(SecretFiles, BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(Section):
    ca_file: Path | None = None
    """PEM file of the authorities that are trusted, and no others; without it the system's."""
    cert_file: Path | None = None
    """PEM file of the client certificate, for servers that ask for one (mutual TLS)."""
    key_file: Path | None = None
    """PEM file of its key, not encrypted."""
    server_name: str | None = None
    """Name that the server's certificate must have, where it is not the one in the address."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            missing = "key_file" if self.key_file is None else "cert_file"
            raise fault_of(missing, "is missing: a client certificate is a certificate and its key")
        return self

    @property
    def configured(self) -> bool:
        return bool(self.model_dump(exclude_defaults=True))


class NatsTlsSettings(TlsSettings):
    handshake_first: bool = False
    """Whether the connection is encrypted before the server's greeting (`handshake_first` of nats-server): nobody in
    between can then name other servers in it."""


class EventLogTlsSettings(TlsSettings):
    verify: bool = True
    """Whether the server must show a certificate of a trusted authority; only a trial may go without."""


class HttpSettings(Section):
    timeout_s: Seconds = 5.0
    """How long POST /guard waits for a decision before it answers 504."""
    text_limit: Count = 100_000
    """Longest accepted text in code points; the UTF-8 payload must also fit NATS max_payload."""
    body_limit_bytes: Count = 1_500_000
    """Largest accepted body of POST /guard; /guard/batch accepts eight times as much. 100,000 characters outside the
    Basic Multilingual Plane take 1.2 MB where a client escapes them all."""
    messages_limit: Annotated[int, Field(ge=1, le=MAX_MESSAGES)] = 200
    """Most messages of one chat; text_limit holds for all their texts together."""
    batch_limit: Count = 100
    """Most requests in one POST /guard/batch."""
    body_timeout_s: Seconds = 15.0
    """How long a body may take to arrive before its request is answered with 408 and the connection closed."""
    header_timeout_s: Seconds = 15.0
    """How long a connection may be open without a whole request line and headers before it is closed."""
    keep_alive_s: Annotated[int, Field(ge=1, le=3600)] = 75
    """How long a connection is kept between two requests: longer than what stands before the service keeps its own (60
    at load balancers), or one is closed just when a request is sent on it. It stands for uvicorn's own default; another
    `--timeout-keep-alive` counts more."""
    max_in_flight: Count = 1000
    """Requests waiting for a decision in this process before new ones are refused with 503."""
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[^\s/?#@*]+$")]] = []
    """Sites whose pages may use the service from a browser, as `https://app.example.com`; none by default, and no
    wildcard: a page of any other site is refused."""
    hsts_s: Annotated[int, Field(ge=0)] = 31_536_000
    """How long browsers are told to insist on TLS for this host, where they came over TLS; 0 tells them nothing."""


class GatewaySettings(Section):
    """The contracts of other products: /v1, /v2, /presidio and LiteLLM's."""

    deadline_ms: Annotated[int, Field(ge=1, le=60_000)] = 4000
    """How long their requests wait for a decision: shorter than their clients do. The n8n node lets a text pass after
    5 s, LiteLLM's hook waits 10 s."""
    undecided: Literal["block", "error"] = "block"
    """What /v1 answers when a text could not be judged: BLOCKED, or an error. Some of its clients let a text pass on an
    error."""
    block_message: ShownText = "This message was blocked by a security policy."
    """What a user reads in place of a blocked text."""
    undecided_message: ShownText = "This message could not be checked and was not let through. Please try again."
    """What a user reads in place of a text that could not be judged."""
    judge_system_messages: bool = False
    """Whether messages of the roles system and developer are judged too; they give orders, and are the operator's."""


class AccessSettings(Section):
    mode: Literal["auto", "open", "keys"] = "auto"
    """`auto`: open to callers of this machine while there are no keys, and closed from the first key on. `keys`: closed
    in any case. `open`: whoever reaches the service may do everything; for a service that something else guards."""
    admin_key: SecretStr | None = None
    """A key with the scope admin that stands in no bucket: it makes the first keys. 32 to 512 characters of printable
    ASCII."""
    admin_key_file: Path | None = None
    """File with it, so that it need not stand in the environment."""
    pepper: SecretList = None
    """Secrets, separated by commas or line breaks, under which keys are stored: the first one makes, all are accepted.
    At least 32 characters each; the same on all replicas. The embedded server's is made in the state folder."""
    pepper_file: Path | None = None
    """File with more of them."""
    rotation_grace_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 86_400.0
    """How long the old secret of a rotated key still works."""
    rate_per_s: Annotated[float, Field(ge=MIN_RATE_PER_S, le=MAX_RATE_PER_S)] | None = None
    """Requests per second of all callers together, over all replicas; keys have limits of their own."""
    burst: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    """Requests that may come at once; as many as come in a second when absent."""

    def admin_secret(self) -> str | None:
        """Return the admin key of `admin_key` or `admin_key_file`.

        Raises:
            ConfigurationError: there are several, it is too short, or no request can bring it.
        """
        keys = secrets_in(self.admin_key)
        if len(keys) > 1:
            raise ConfigurationError("settings cannot be used: access.admin_key: there may be only one")
        check_length(keys, "access.admin_key")
        check_sendable(keys, "access.admin_key")
        return keys[0] if keys else None

    def peppers(self) -> tuple[bytes, ...]:
        """Return the secrets of `pepper` and `pepper_file`, each once.

        Raises:
            ConfigurationError: a secret is too short; which one is told by its number.
        """
        peppers = secrets_in(self.pepper)
        check_length(peppers, "access.pepper")
        return tuple(pepper.encode() for pepper in peppers)


class StreamSettings(Section):
    """Answers that are judged as they come; `http.text_limit` bounds their length."""

    max_open: Count = 64
    """Streams under way in this process before new ones are refused with 503."""
    idle_timeout_s: Seconds = 30.0
    """How long a stream waits for its next chunk, or for the client to take what it was sent."""
    deadline_s: Seconds = 600.0
    """Longest time of a stream from its opening to its last chunk."""
    pause_s: Seconds = 0.5
    """When nothing came for so long, whole sentences are let out without looking further ahead."""
    hold_limit: Annotated[int, Field(ge=1024, le=65_536)] = 4096
    """Most code points that are held; what is still undecided then is left out and named by a placeholder."""


class NatsSettings(Section):
    connect_timeout_s: Seconds = 2.0
    reconnect_wait_s: Seconds = 0.25
    publish_timeout_s: Seconds = 5.0
    """How long a publish waits for JetStream's acknowledgement."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Copies of each stream; 3 in production. A stream or bucket that has more keeps them."""
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    nkey_seed: SecretStr | None = None
    """Seed of the user's NKey, `SU...`."""
    nkey_seed_file: Path | None = None
    credentials_file: Path | None = None
    """A `.creds` file: the user's JWT and seed. It is read again at each sign-in."""
    tls: NatsTlsSettings = NatsTlsSettings()
    """Any of these, or a tls:// address, and nothing is sent in the clear."""
    embedded_host: str = "127.0.0.1"
    embedded_port: Annotated[int, Field(ge=1, le=65_535)] = 4222
    """Preferred port of the embedded server; when it is taken a free one is used and logged."""

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise fault_of("password" if self.password is None else "user", "is missing: they go together")
        ways = ("user", "token", "nkey_seed", "credentials_file")
        used = [name for name in ways if getattr(self, name) is not None]
        if len(used) > 1:
            raise fault_of(used[1], f"cannot go with {used[0]}: a client signs in in one way")
        return self


class ConsumerSettings(Section):
    """How much one subscriber fetches and works on at once in this process."""

    fetch: Count = 64
    """Messages asked for in one pull."""
    concurrency: Count = 64
    """Messages worked on at once."""


class WorkerSettings(Section):
    detection: ConsumerSettings = ConsumerSettings()
    pii: ConsumerSettings = ConsumerSettings(fetch=32, concurrency=32)
    arbiter: ConsumerSettings = ConsumerSettings()
    retry_delays_s: Annotated[list[Seconds], Field(min_length=1)] = [5.0, 30.0, 60.0]
    """Delay before each redelivery of a message whose handler failed; the last one repeats."""
    expiry_grace_s: Seconds = 5.0
    """A request this much later than its deadline is recorded as expired and not judged. Before, it is judged all the
    same: its decision can be read later."""
    sweep_interval_s: Seconds = 30.0
    """How often the work queue is searched for messages that no consumer would deliver any more."""
    inline_text_limit: Count = 2_000
    """Texts up to this many code points are judged on the event loop; longer ones in a thread."""
    threads: Count = 2
    """Threads for work that would stall the event loop (personal data, long texts)."""
    stop_timeout_s: Seconds = 20.0
    """How long a stopping process finishes what is in flight; half of it at most goes to open HTTP connections, and a
    quarter to requests over NATS."""


class EventLogSettings(Section):
    database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "vigil"
    batch_size: Count = 1000
    """Most rows in one insert."""
    batch_wait_s: Seconds = 1.0
    """Longest time a row waits for its batch to fill. An insert costs about 20 ms of CPU however few rows it has."""
    retention_days: RetentionDays = 90
    """How long events are kept."""
    feedback_retention_days: RetentionDays = 365
    """How long reports on decisions are kept, with the texts that callers gave up for training."""
    query_timeout_s: Seconds = 10.0
    """How long a question to the event log may take."""
    erase_timeout_s: Seconds = 60.0
    """How long rows that are to be forgotten may be searched for in one partition of a table, a day of events."""
    user: str | None = None
    """Who signs in to ClickHouse; in place of what stands in CLICKHOUSE_URL."""
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: EventLogTlsSettings = EventLogTlsSettings()
    """For an https:// CLICKHOUSE_URL."""

    @model_validator(mode="after")
    def _named_with_password(self) -> Self:
        if self.password is not None and self.user is None:
            raise fault_of("user", "is missing: a password is somebody's")
        return self


class DecisionStoreSettings(Section):
    ttl_s: Annotated[Seconds, Field(ge=DETECTION_STREAM.duplicate_window.total_seconds())] = 900.0
    """How long a decision is kept for a repeated request id; older ones are read from the event log. Two minutes at
    least: for so long JetStream drops a repeat, which is answered from here alone."""


class DetectionSettings(Section):
    default_policy: str = "balanced"
    sub_words_read: Annotated[int, Field(ge=256, le=65_536)] = 1_280
    """Most sub-words (an English word has one or two) that the encoder of full mode reads of one text. A longer text is
    read at its beginning, its end and where the light models suspect most; rules and light models always read all."""


class PiiSettings(Section):
    default_language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    fast_mode: Literal["off", "patterns"] = "off"
    """Whether fast mode looks for personal data that has a shape (numbers, addresses of all kinds, secrets), without
    names and places; by default it looks for none."""


class PrivacySettings(Section):
    hash_key: SecretStr | None = None
    """Key of the HMAC that stands for a text in the event log; plain SHA-256 without it. An empty one is refused."""
    hash_key_file: Path | None = None
    store: Literal["hash", "redacted", "full"] = "redacted"
    """What the event log holds of a text. `hash`: digest and length. `redacted`: of full mode also the redacted text;
    nothing of fast mode, where nobody looked for personal data. `full`: the text itself too, in both modes, for
    `full_text_days`."""
    full_text_days: RetentionDays | None = None
    """How long full texts are kept in the event log; `store=full` demands a number here."""
    restore_key: SecretList = None
    """Secrets that seal the maps of restorable requests, separated by commas or line breaks: the first one seals, all
    open. At least 32 characters each; the same on all replicas. Without any, a random one dies with the process."""
    restore_key_file: Path | None = None
    """File with more of them, so that they need not stand in the environment."""
    restore_ttl_s: Seconds = 3600.0
    """How long a map can be used."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.hash_key is not None and not self.hash_key.get_secret_value().strip():
            # As of a variable that was never filled: digests that anyone can make would stand where a key was meant.
            raise fault_of("hash_key", "is empty: give it a key (openssl rand -hex 32), or leave it out for none")
        if self.store == "full" and self.full_text_days is None:
            raise PydanticCustomError("full_text_days", "store=full also needs full_text_days: how long texts are kept")
        return self

    @property
    def hash_key_bytes(self) -> bytes:
        """The key as bytes; empty without one."""
        return self.hash_key.get_secret_value().encode() if self.hash_key is not None else b""

    def restore_keys(self) -> tuple[bytes, ...]:
        """Return the secrets of `restore_key` and `restore_key_file`, each once.

        Raises:
            ConfigurationError: a secret is too short; which one is told by its number.
        """
        keys = secrets_in(self.restore_key)
        check_length(keys, "privacy.restore_key")
        return tuple(key.encode() for key in keys)


class TracingSettings(Section):
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    """An OpenTelemetry collector that takes OTLP over HTTP, as http://127.0.0.1:4318; spans go to /v1/traces below it.
    Without it, and without OTEL_EXPORTER_OTLP_ENDPOINT, nothing is traced."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the traces that begin here and are recorded; a caller's trace is recorded when the caller says so."""


class LogSettings(Section):
    level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    json_lines: bool = False


class Settings(SecretFiles, BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, populate_by_name=True
    )

    # Not shown with the settings, since an address may hold a password.
    nats_url: str | None = Field(default=None, validation_alias=AliasChoices("nats_url", "NATS_URL"), repr=False)
    """Comma-separated nats:// or tls:// addresses; without it an embedded nats-server is started."""
    nats_url_file: Path | None = Field(default=None, validation_alias=AliasChoices("nats_url_file", "NATS_URL_FILE"))
    clickhouse_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("clickhouse_url", "CLICKHOUSE_URL")
    )
    """http(s)://user:password@host:port of a ClickHouse server; without it the embedded engine is used."""
    clickhouse_url_file: Path | None = Field(
        default=None, validation_alias=AliasChoices("clickhouse_url_file", "CLICKHOUSE_URL_FILE")
    )
    state_dir: Path = Path(".vigil")
    """Folder of everything the embedded parts keep."""
    config_dir: Path = Field(default_factory=default_config_dir)
    """Folder with policies/ and patterns/."""

    canaries: SecretList = None
    """Secret tokens planted in every system prompt, separated by commas or line breaks; 8 to 256 characters each. An
    output or a tool's output that holds one is BLOCKED."""
    canaries_file: Path | None = None
    """File with more of them, so that they need not stand in the environment."""

    http: HttpSettings = HttpSettings()
    stream: StreamSettings = StreamSettings()
    gateways: GatewaySettings = GatewaySettings()
    access: AccessSettings = AccessSettings()
    nats: NatsSettings = NatsSettings()
    workers: WorkerSettings = WorkerSettings()
    event_log: EventLogSettings = EventLogSettings()
    decisions: DecisionStoreSettings = DecisionStoreSettings()
    detection: DetectionSettings = DetectionSettings()
    pii: PiiSettings = PiiSettings()
    privacy: PrivacySettings = PrivacySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    def planted_canaries(self) -> tuple[str, ...]:
        """Return the canaries of `canaries` and `canaries_file`, each once.

        Raises:
            ConfigurationError: a canary is too short or too long; which one is told by its number, never by its text.
        """
        canaries = secrets_in(self.canaries)
        for number, canary in enumerate(canaries, start=1):
            if not MIN_CANARY_LENGTH <= len(canary) <= MAX_CANARY_LENGTH:
                raise ConfigurationError(
                    f"settings cannot be used: canaries: number {number} must have {MIN_CANARY_LENGTH} to "
                    f"{MAX_CANARY_LENGTH} characters, not {len(canary)}"
                )
        return canaries

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = os.environ.get("VIGIL_CONFIG")
        if named and not Path(named).is_file():
            raise ConfigurationError(f"VIGIL_CONFIG names a file that does not exist: {named}")
        path = Path(named) if named else default_config_dir() / "vigil.yaml"
        try:
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise ConfigurationError(f"settings cannot be used: {path} {_fault_of_file(error)}") from None


@cache
def load_settings() -> Settings:
    """Read the settings of this process once.

    Raises:
        ConfigurationError: a setting is unknown or out of range, or the config file cannot be read; the message names
            it and never its value.
    """
    try:
        return Settings()
    except SettingsError as error:
        said = "a list or a section is written as JSON in the environment"
        raise ConfigurationError(f"settings cannot be used: {_variables_of(error)}: {said}") from None
    except ValidationError as error:
        faults = "; ".join(f"{_setting_of(fault)}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise ConfigurationError(f"settings cannot be used: {faults}") from None


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables that look like settings and are none, as VIGIL_HTTP_TIMEOUT_S.

    An unknown name within a section needs no look of its own: it ends the start.
    """
    sections = {
        PREFIX + name.upper() for name, field in Settings.model_fields.items() if field.validation_alias is None
    }
    return sorted(
        name
        for name, value in environment.items()
        if (upper := name.upper()).startswith(PREFIX)
        and upper not in NO_SETTINGS
        and upper.partition("__")[0] not in sections
        and not (OF_KUBERNETES.search(upper) or value.startswith(("tcp://", "udp://", "sctp://")))
    )


def _fault_of_file(error: Exception) -> str:
    """Return what is wrong with the config file; never the library's message, which may quote it."""
    if isinstance(error, OSError):
        return f"cannot be read: {type(error).__name__}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"is no YAML at line {error.problem_mark.line + 1}"
    return "holds no settings: it must be a YAML mapping in UTF-8"


def _variables_of(error: SettingsError) -> str:
    """Return which variables hold what could not be parsed; the error itself knows the section alone."""
    content = getattr(error.__cause__, "doc", None)
    named = sorted(name for name, value in os.environ.items() if value == content and name.upper().startswith("VIGIL_"))
    return ", ".join(named) or "the environment"


def _setting_of(fault: ErrorDetails) -> str:
    """Return the full name of the setting at fault."""
    inner = [fault["ctx"]["setting"]] if fault["type"] == "setting" else []
    return ".".join(map(str, [*fault["loc"], *inner]))
