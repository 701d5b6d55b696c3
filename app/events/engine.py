"""The blocking side of the event log: one ClickHouse client, embedded or of a server, used from one thread."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from app.contracts import DecisionRecord
from app.errors import ConfigurationError, EventLogUnavailable
from app.events import erasing, rows, schema
from app.events.embedded import EmbeddedEngineLock
from app.events.entries import values_of
from app.events.erasing import Stretch
from app.events.reading import Reader
from app.log_contracts import FeedbackRecord, ForgetOrder, LogEntry, Removed, TextRecord
from app.settings import EventLogSettings, EventLogTlsSettings, Settings
from app.tls import client_context

if TYPE_CHECKING:
    from clickhouse_connect.datatypes.base import ClickHouseType
    from clickhouse_connect.driver.client import Client

ENGINE_FOLDER: Final = "clickhouse"
"""Folder of the embedded engine's files in the state folder."""
LOCK_FILE: Final = "clickhouse.lock"
"""File in the state folder that the embedded engine's owner holds locked."""
ERASE_GRACE_S: Final = 5.0
"""How much longer than a search may take its answer is waited for."""

_INSERT_SETTINGS: Final = {
    # An insert is answered when its rows are in the table, whatever the server's profile says.
    "async_insert": 0,
    # Repeated ids of one block are left to FINAL and to merges: a fifth off an insert of 1,000 rows (60 to 47 ms).
    "optimize_on_insert": 0,
    # A batch of old events may touch any number of days, and refusing it would refuse it for ever.
    "max_partitions_per_insert_block": 0,
}


class Engine:
    """Opens, migrates, writes and reads. Every method blocks and raises whatever the client raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = EmbeddedEngineLock(settings.state_dir / LOCK_FILE)
        self._client: Client | None = None
        self._erasing_client: Client | None = None
        self._column_types: list[ClickHouseType] = []

    def open(self) -> None:
        """Connect and bring the schema up to date; on failure nothing stays open.

        Raises:
            EventLogBusy: another process has the embedded engine open.
            ConfigurationError: the address cannot be used, or the database is newer than this program.
        """
        # Some of the driver's log lines carry an exception's text, which may quote a row; it raises the same anyway.
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL + 1)
        try:
            self._client = self._connect()
            schema.create_database(self._client, self._settings.event_log.database)
            schema.apply_migrations(self._client, schema.load_migrations())
            self._apply_retention(self._client)
            probe = self._client.create_insert_context(schema.TABLE, rows.COLUMNS)
            self._column_types = list(probe.column_types)
        except BaseException:
            self.close()
            raise

    def probe(self) -> None:
        """Connect and read the table as it is, without making or changing anything."""
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL + 1)
        self._client = self._connect()
        self._client.database = self._settings.event_log.database
        self.ping()

    def close(self) -> None:
        """Close the client and let another process have the embedded engine."""
        try:
            if self._client is not None:
                self._client.close()
        finally:
            self._client = None
            self._lock.release()

    def insert(self, entries: Sequence[LogEntry]) -> None:
        """Insert in one block for each table."""
        records = [entry for entry in entries if isinstance(entry, DecisionRecord)]
        if records:
            self._insert_records(records)
        for kind, table in ((TextRecord, schema.TEXTS), (FeedbackRecord, schema.FEEDBACK)):
            beside = [entry for entry in entries if isinstance(entry, kind)]
            if beside:
                self._opened.insert(
                    table,
                    [values_of(entry) for entry in beside],
                    column_names=tuple(kind.model_fields),
                    settings=_INSERT_SETTINGS,
                )

    def _insert_records(self, records: Sequence[DecisionRecord]) -> None:
        self._opened.insert(
            schema.TABLE,
            rows.columns_of(records, store_text=self._settings.privacy.store != "hash"),
            column_names=rows.COLUMNS,
            column_types=self._column_types,
            column_oriented=True,
            settings=_INSERT_SETTINGS,
        )

    @property
    def reader(self) -> Reader:
        """What answers a question that begins now."""
        return Reader(self._opened, time.monotonic() + self.query_timeout_s)

    @property
    def query_timeout_s(self) -> float:
        """How long a question may take."""
        return self._settings.event_log.query_timeout_s

    @property
    def erases_apart(self) -> bool:
        """Whether the methods that erase may be called in a thread of their own, where nothing waits for them."""
        return self._settings.clickhouse_url is not None

    def stretches(self) -> list[Stretch]:
        return erasing.stretches(self._eraser)

    def search(self, order: ForgetOrder, stretch: Stretch) -> Removed:
        return erasing.search(self._eraser, order, stretch, self._settings.event_log.erase_timeout_s)

    def erase(self, order: ForgetOrder, found: Removed) -> None:
        erasing.erase(self._eraser, order, found)

    def erasing(self) -> bool:
        return erasing.erasing(self._eraser)

    def close_eraser(self) -> None:
        if self._erasing_client is not None:
            self._erasing_client.close()
            self._erasing_client = None

    def count(self) -> int:
        return int(self._opened.query(f"SELECT count() FROM {schema.VIEW}").result_rows[0][0])  # noqa: S608 - constant

    def ping(self) -> None:
        self._opened.query(f"SELECT 1 FROM {schema.TABLE} LIMIT 0")  # noqa: S608 - constant

    @property
    def _opened(self) -> Client:
        if self._client is None:
            raise EventLogUnavailable("The event log is closed.")
        return self._client

    @property
    def _eraser(self) -> Client:
        """A client of its own where there may be several: one has one connection, and one limit for an answer."""
        if not self.erases_apart:
            return self._opened
        if self._erasing_client is None:
            log = self._settings.event_log
            # ClickHouse gives up first, and says so.
            self._erasing_client = self._connect(answer_within_s=log.erase_timeout_s + ERASE_GRACE_S)
            self._erasing_client.database = log.database
        return self._erasing_client

    def _apply_retention(self, client: Client) -> None:
        log = self._settings.event_log
        schema.apply_retention(client, log.retention_days)
        schema.apply_retention(client, log.feedback_retention_days, schema.FEEDBACK, "given_at")
        if self._settings.privacy.full_text_days is not None:
            schema.apply_retention(client, self._settings.privacy.full_text_days, schema.TEXTS)

    def _connect(self, answer_within_s: float | None = None) -> Client:
        import clickhouse_connect

        url = self._settings.clickhouse_url
        if url is None:
            self._lock.acquire()
            folder = self._settings.state_dir.resolve() / ENGINE_FOLDER
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)  # Also where an older version made it: its files are as readable as the folder.
            return clickhouse_connect.get_client(interface="chdb", path=str(folder))
        log = self._settings.event_log
        address = _checked_address(url.get_secret_value(), log.tls)
        timeout_s = math.ceil(log.query_timeout_s)
        answer_within_s = answer_within_s or timeout_s
        return clickhouse_connect.get_client(
            dsn=address,
            # The client takes it from the port alone, and would speak plain HTTP to https://host:9443.
            interface=urlsplit(address).scheme,
            username=log.user,
            password=log.password.get_secret_value() if log.password is not None else "",
            client_name="vigil-guard",
            connect_timeout=timeout_s,
            send_receive_timeout=math.ceil(answer_within_s),
            query_retries=0,
            autogenerate_session_id=False,
            **_tls_options(log),
        )


def _tls_options(log: EventLogSettings) -> dict[str, Any]:
    """Return the client's options; a certificate signs in where no password does."""
    tls = log.tls
    options: dict[str, Any] = {"verify": tls.verify}
    if tls.ca_file is not None:
        options["ca_cert"] = str(tls.ca_file)
    if tls.cert_file is not None:
        options |= {"client_cert": str(tls.cert_file), "client_cert_key": str(tls.key_file)}
        options["tls_mode"] = "strict" if log.password is not None else "mutual"
    if tls.server_name is not None:
        options["server_host_name"] = tls.server_name
    return options


def _checked_address(url: str, tls: EventLogTlsSettings) -> str:
    """Return the address; database and TLS are the settings' to name, and its scheme must be one the client speaks."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError("CLICKHOUSE_URL must be http(s)://user:password@host:port", field="clickhouse_url")
    if parts.path.strip("/"):
        raise ConfigurationError(
            "CLICKHOUSE_URL names a database; set VIGIL_EVENT_LOG__DATABASE instead", field="clickhouse_url"
        )
    if parts.query:
        raise ConfigurationError(
            "CLICKHOUSE_URL takes no options after '?'; they are settings under VIGIL_EVENT_LOG__",
            field="clickhouse_url",
        )
    if parts.scheme == "https":
        client_context(tls, "event_log.tls")
    elif tls.configured:
        raise ConfigurationError("event_log.tls is set, and CLICKHOUSE_URL is not https://", field="clickhouse_url")
    return url
