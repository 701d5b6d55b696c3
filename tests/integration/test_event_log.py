"""The event log on the real ClickHouse engine: one visible row, exact records, migrations, ownership."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from app.contracts import DecisionRecord, Verdict
from app.errors import ConfigurationError, EventLogBusy, EventLogUnavailable
from app.events import schema
from app.events.engine import ENGINE_FOLDER, Engine
from app.events.log import EventLog
from app.events.reading import Reader
from app.events.rows import COLUMNS
from app.log_contracts import EventQuery, StatsQuery
from app.settings import EventLogSettings, PrivacySettings, Settings
from tests.integration.event_log_writer import request_ids
from tests.unit.events.records import TODAY, full_record, plain_record

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

pytestmark = pytest.mark.integration


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[EventLog]:
    log = await EventLog.open(settings)
    try:
        yield log
    finally:
        await log.close()


@contextmanager
def opened_engine(settings: Settings) -> Iterator[tuple[Engine, Client]]:
    """The blocking side with its client, for questions in SQL that the log does not ask."""
    engine = Engine(settings)
    engine.open()
    try:
        yield engine, engine._opened
    finally:
        engine.close()


class Explaining:
    """A client that notes how the log's queries are carried out."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.plans: list[str] = []

    def query(self, sql: str, *, column_formats: object = None, **options: Any) -> Any:
        if schema.FEEDBACK not in sql:
            plan = self._client.query(f"EXPLAIN indexes = 1 {sql}", **options).result_rows
            self.plans.append("\n".join(line for (line,) in plan))
        return self._client.query(sql, column_formats=column_formats, **options)


def decided(record: DecisionRecord, verdict: Verdict, *, later: timedelta = timedelta()) -> DecisionRecord:
    """The same request with another decision, decided later."""
    answer = record.answer.model_copy(update={"decision": verdict})
    return record.model_copy(update={"answer": answer, "decided_at": record.decided_at + later})


class TestRecords:
    def test_find_returns_an_equal_record(self, event_log_settings: Settings) -> None:
        async def scenario() -> None:
            records = [plain_record(), full_record(), plain_record()]
            async with opened(event_log_settings) as log:
                await log.append(records)
                for record in records:
                    assert await log.find(record.answer.request_id) == record
                assert await log.find(uuid4()) is None

        asyncio.run(scenario())

    def test_records_outlive_the_log_that_wrote_them(self, event_log_settings: Settings) -> None:
        async def scenario() -> None:
            record = full_record()
            async with opened(event_log_settings) as log:
                await log.append([record])
            async with opened(event_log_settings) as log:
                assert await log.find(record.answer.request_id) == record

        asyncio.run(scenario())

    def test_no_text_is_stored_when_none_may_be(self, embedded_log_settings: Settings) -> None:
        settings = embedded_log_settings.model_copy(update={"privacy": PrivacySettings(store="hash")})
        record = full_record()
        with opened_engine(settings) as (engine, client):
            engine.insert([record])
            texts = client.query("SELECT redacted_text, sanitized_text FROM events_log").result_rows
            found = engine.reader.find(record.answer.request_id)
        assert texts == [(None, None)]
        assert found is not None
        assert found.answer.decision is Verdict.SANITIZED

    def test_an_empty_batch_is_no_insert(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            async with opened(embedded_log_settings) as log:
                await log.append([])
                assert await log.count() == 0
                await log.ping()

        asyncio.run(scenario())

    def test_a_failed_insert_quotes_no_row(
        self, event_log_settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario() -> None:
            record = plain_record(text_length=-1, redacted_text="pesel 44051401359")
            async with opened(event_log_settings) as log:
                with pytest.raises(EventLogUnavailable) as caught:
                    await log.append([record])
                assert "pesel" not in str(caught.value)
                assert await log.count() == 0

        asyncio.run(scenario())
        assert "pesel" not in caplog.text


class TestOneVisibleRow:
    def test_an_append_repeated_leaves_one_row_with_the_first_decision(self, event_log_settings: Settings) -> None:
        async def scenario() -> None:
            first = plain_record()
            second = decided(first, Verdict.BLOCKED, later=timedelta(microseconds=1))
            async with opened(event_log_settings) as log:
                await log.append([first])
                await log.append([second])
                await log.append([first])
                assert await log.count() == 1
                assert await log.find(first.answer.request_id) == first

        asyncio.run(scenario())

    def test_the_first_decision_counts_when_it_arrives_last(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            first = plain_record()
            async with opened(embedded_log_settings) as log:
                await log.append([decided(first, Verdict.BLOCKED, later=timedelta(seconds=5))])
                await log.append([first])
                assert await log.find(first.answer.request_id) == first

        asyncio.run(scenario())

    def test_an_expired_request_gives_way_to_a_decision(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            expired = plain_record(decision=Verdict.EXPIRED)
            judged = decided(expired, Verdict.ALLOWED, later=timedelta(seconds=30))
            async with opened(embedded_log_settings) as log:
                await log.append([expired])
                assert await log.find(expired.answer.request_id) == expired
                await log.append([judged])
                await log.append([expired])
                assert await log.count() == 1
                assert await log.find(expired.answer.request_id) == judged

        asyncio.run(scenario())

    def test_an_id_repeated_within_one_batch_is_one_row(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            first = plain_record()
            later = decided(first, Verdict.BLOCKED, later=timedelta(seconds=1))
            async with opened(embedded_log_settings) as log:
                await log.append([later, first, later, plain_record()])
                assert await log.count() == 2
                assert await log.find(first.answer.request_id) == first

        asyncio.run(scenario())

    def test_an_id_repeated_on_another_day_is_one_row_and_not_seen_on_that_day(
        self, embedded_log_settings: Settings
    ) -> None:
        first = plain_record()
        tomorrow = first.received_at + timedelta(days=1)
        second = decided(first, Verdict.BLOCKED, later=timedelta(days=1)).model_copy(update={"received_at": tomorrow})
        with opened_engine(embedded_log_settings) as (engine, client):
            engine.insert([first])
            engine.insert([second])
            partitions = client.query("SELECT DISTINCT _partition_id FROM events_log").result_rows
            visible = client.query("SELECT decision FROM events").result_rows
            on_that_day = client.query(
                "SELECT count() FROM events WHERE toDate(received_at) = {day:Date}", parameters={"day": tomorrow.date()}
            ).result_rows
            found = engine.reader.find(first.answer.request_id)
        assert len(partitions) == 2
        assert visible == [("ALLOWED",)]
        assert on_that_day == [(0,)]
        assert found == first

    def test_a_batch_may_touch_more_days_than_servers_allow_by_default(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            days = [plain_record(received_at=TODAY + timedelta(days=day)) for day in range(120)]
            async with opened(embedded_log_settings) as log:
                await log.append(days)
                assert await log.count() == 120

        asyncio.run(scenario())

    def test_a_merge_keeps_the_first_decision(self, embedded_log_settings: Settings) -> None:
        first = plain_record()
        with opened_engine(embedded_log_settings) as (engine, client):
            engine.insert([first])
            engine.insert([decided(first, Verdict.BLOCKED, later=timedelta(seconds=1))])
            client.command("OPTIMIZE TABLE events_log FINAL")
            assert client.query("SELECT decision FROM events_log").result_rows == [("ALLOWED",)]


class TestReading:
    def test_find_reads_one_granule_by_the_primary_key(self, embedded_log_settings: Settings) -> None:
        with opened_engine(embedded_log_settings) as (_, client):
            client.command(
                "INSERT INTO events_log (request_id, received_at) "
                "SELECT generateUUIDv7(), now64(6, 'UTC') FROM numbers(50000)"
            )
            request_id = client.query("SELECT request_id FROM events_log LIMIT 1 OFFSET 30000").result_rows[0][0]
            plan = self._plan(
                client, "SELECT * FROM events WHERE request_id = {request_id:UUID}", request_id=request_id
            )
        assert "PrimaryKey" in plan
        assert "Granules: 1/" in plan

    def test_a_time_range_reads_few_granules_of_time_ordered_ids(self, embedded_log_settings: Settings) -> None:
        with opened_engine(embedded_log_settings) as (_, client):
            client.command(
                "INSERT INTO events_log (request_id, received_at) WITH {start:DateTime('UTC')} AS start "
                "SELECT dateTimeToUUIDv7(start + number), start + number FROM numbers(80000)",
                parameters={"start": TODAY},
            )
            query = "SELECT count() FROM events WHERE received_at >= {start:DateTime('UTC')}"
            start = TODAY + timedelta(hours=22)
            assert client.query(query, parameters={"start": start}).result_rows == [(800,)]
            plan = self._plan(client, query, start=start)
        assert "received_at_range" in plan
        assert "Granules: 1/" in plan

    def test_questions_read_the_days_they_are_about_also_where_ids_lie_anywhere(
        self, embedded_log_settings: Settings
    ) -> None:
        with opened_engine(embedded_log_settings) as (_, client):
            client.command(
                "INSERT INTO events_log (request_id, received_at, decided_at, decision, mode, source, threat_level) "
                "WITH {start:DateTime('UTC')} - INTERVAL number % 3 DAY AS received_at SELECT generateUUIDv4(), "
                "received_at, received_at, 'ALLOWED', 'fast', 'input', 'LOW' FROM numbers(60000)",
                parameters={"start": TODAY},
            )
            explaining: Any = Explaining(client)
            reader = Reader(explaining, time.monotonic() + 60)
            before = TODAY + timedelta(hours=1)
            assert reader.stats(StatsQuery(since=TODAY, before=before)).total == 20_000
            page = reader.events(EventQuery(before=before))
            assert len(page.events) == 100
            assert len(explaining.plans) == 4
            assert all("Parts: 1 |" in plan for plan in explaining.plans)
            explaining.plans.clear()
            assert reader.find(page.events[0].request_id) is not None
            assert ["FINAL: 1" in plan for plan in explaining.plans] == [False]

    @staticmethod
    def _plan(client: Client, query: str, **parameters: object) -> str:
        rows = client.query(f"EXPLAIN indexes = 1 {query}", parameters=parameters).result_rows
        return "\n".join(line for (line,) in rows)


class TestSchema:
    def test_every_written_column_is_the_tables_and_the_other_way_round(self, embedded_log_settings: Settings) -> None:
        with opened_engine(embedded_log_settings) as (_, client):
            described = client.query("SELECT name FROM system.columns WHERE table = 'events_log'").result_rows
        assert {name for (name,) in described} == {*COLUMNS, "inserted_at", "precedence"}

    def test_a_second_start_applies_nothing(self, event_log_settings: Settings) -> None:
        with opened_engine(event_log_settings):
            pass
        with opened_engine(event_log_settings) as (_, client):
            assert schema.apply_migrations(client, schema.load_migrations()) == []
            recorded = client.query("SELECT version FROM schema_migrations ORDER BY version").result_rows
        assert recorded == [(migration.version,) for migration in schema.load_migrations()]

    def test_merges_take_one_column_after_the_other(self, embedded_log_settings: Settings) -> None:
        """However few rows they are of: with all columns at once a merge needs many times the memory."""
        with opened_engine(embedded_log_settings) as (_, client):
            ((definition,),) = client.query(
                "SELECT engine_full FROM system.tables WHERE name = 'events_log'"
            ).result_rows
        assert "vertical_merge_algorithm_min_rows_to_activate = 1" in definition

    def test_an_interrupted_migration_is_finished_at_the_next_start(self, embedded_log_settings: Settings) -> None:
        record = plain_record()
        with opened_engine(embedded_log_settings) as (engine, client):
            engine.insert([record])
            client.command("DROP VIEW events")
            client.command("TRUNCATE TABLE schema_migrations")
        with opened_engine(embedded_log_settings) as (engine, _):
            assert engine.reader.find(record.answer.request_id) == record

    def test_two_replicas_may_migrate_at_once(self, embedded_log_settings: Settings) -> None:
        import clickhouse_connect

        def start(_: int) -> None:
            path = str(embedded_log_settings.state_dir.resolve() / ENGINE_FOLDER)
            client = clickhouse_connect.get_client(interface="chdb", path=path)
            schema.create_database(client, "fresh")
            schema.apply_migrations(client, schema.load_migrations())
            schema.apply_retention(client, 30)
            client.close()

        with opened_engine(embedded_log_settings) as (_, client), ThreadPoolExecutor(4) as replicas:
            list(replicas.map(start, range(4)))
            assert client.query("SELECT count() FROM fresh.events").result_rows == [(0,)]

    def test_a_database_newer_than_the_program_is_refused(self, event_log_settings: Settings) -> None:
        with opened_engine(event_log_settings) as (_, client):
            client.command("INSERT INTO schema_migrations (version, name) VALUES (9999, 'of the future')")

        async def scenario() -> None:
            with pytest.raises(ConfigurationError, match="9999"):
                await EventLog.open(event_log_settings)

        asyncio.run(scenario())

    def test_a_program_works_on_after_a_later_one_whose_migration_allows_it(
        self, event_log_settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        known = schema.load_migrations()
        added = "ALTER TABLE events_log ADD COLUMN IF NOT EXISTS added UInt8 DEFAULT 7"
        later = schema.Migration(len(known) + 1, "added", (added,), compatible_with=len(known))
        with opened_engine(event_log_settings) as (_, client):
            assert schema.apply_migrations(client, [*known, later]) == [later.version]
        record = plain_record()
        with opened_engine(event_log_settings) as (engine, client):
            engine.insert([record])
            assert engine.reader.find(record.answer.request_id) == record
            assert client.query("SELECT added FROM events_log").result_rows == [(7,)]
            assert f"schema version {later.version}" in caplog.text
            with pytest.raises(ConfigurationError, match=f"from version {len(known)} on"):
                schema.apply_migrations(client, known[:-1])

    def test_the_record_of_an_earlier_program_allows_no_program_before_it(self, event_log_settings: Settings) -> None:
        known = schema.load_migrations()
        with opened_engine(event_log_settings) as (_, client):
            client.command("ALTER TABLE schema_migrations DROP COLUMN compatible_with")
            assert schema.apply_migrations(client, known) == []
            with pytest.raises(ConfigurationError, match=f"from version {len(known)} on"):
                schema.apply_migrations(client, known[:-1])

    def test_retention_follows_the_setting_and_drops_whole_days(self, event_log_settings: Settings) -> None:
        shorter = event_log_settings.model_copy(
            update={"event_log": event_log_settings.event_log.model_copy(update={"retention_days": 7})}
        )
        with opened_engine(event_log_settings) as (_, client):
            assert "TTL toDateTime(received_at) + toIntervalDay(90)" in self._engine(client)
            assert not schema.apply_retention(client, 90)
        with opened_engine(shorter) as (_, client):
            definition = self._engine(client)
        assert "TTL toDateTime(received_at) + toIntervalDay(7)" in definition
        assert "PARTITION BY toDate(received_at)" in definition
        assert "ttl_only_drop_parts = 1" in definition

    def test_an_expired_day_is_dropped(self, embedded_log_settings: Settings) -> None:
        settings = embedded_log_settings.model_copy(update={"event_log": EventLogSettings(retention_days=1)})
        with opened_engine(settings) as (engine, client):
            client.command("SYSTEM STOP TTL MERGES")
            engine.insert([plain_record(received_at=plain_record().received_at.replace(year=2020))])
            client.command("SYSTEM START TTL MERGES")
            client.command("OPTIMIZE TABLE events_log FINAL")
            assert engine.count() == 0

    def test_an_acknowledged_insert_is_synced_to_disk(self, embedded_log_settings: Settings) -> None:
        with opened_engine(embedded_log_settings) as (_, client):
            definition = self._engine(client)
        assert "fsync_after_insert = 1" in definition
        assert "fsync_part_directory = 1" in definition

    @staticmethod
    def _engine(client: Client) -> str:
        query = "SELECT engine_full FROM system.tables WHERE name = 'events_log' AND database = {database:String}"
        return str(client.query(query, parameters={"database": client.database}).result_rows[0][0])


class TestOwnership:
    def test_a_second_log_of_the_same_folder_is_busy_until_the_first_closes(
        self, embedded_log_settings: Settings
    ) -> None:
        async def scenario() -> None:
            async with opened(embedded_log_settings):
                with pytest.raises(EventLogBusy):
                    await EventLog.open(embedded_log_settings)
            async with opened(embedded_log_settings) as log:
                await log.ping()

        asyncio.run(scenario())

    def test_a_failed_open_lets_others_in(self, embedded_log_settings: Settings) -> None:
        folder = embedded_log_settings.state_dir / ENGINE_FOLDER
        folder.parent.mkdir(parents=True)
        folder.write_text("not a folder")

        async def scenario() -> None:
            with pytest.raises(EventLogUnavailable) as caught:
                await EventLog.open(embedded_log_settings)
            assert not isinstance(caught.value, EventLogBusy)
            folder.unlink()
            async with opened(embedded_log_settings) as log:
                await log.ping()

        asyncio.run(scenario())

    def test_a_cancelled_open_lets_others_in(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            opening = asyncio.create_task(EventLog.open(embedded_log_settings))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            async with asyncio.timeout(30):
                while await self._is_busy(embedded_log_settings):
                    continue

        asyncio.run(scenario())

    def test_acknowledged_rows_survive_kill_9_and_another_process_takes_over(
        self, embedded_log_settings: Settings
    ) -> None:
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.event_log_writer", str(embedded_log_settings.state_dir)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(4)]
            busy = asyncio.run(self._is_busy(embedded_log_settings))
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in writer.stdout]
        assert busy
        assert writer.returncode == -signal.SIGKILL
        expected = {request_id for batch in acknowledged for request_id in request_ids(batch)}
        with opened_engine(embedded_log_settings) as (engine, client):
            stored: set[UUID] = {row[0] for row in client.query("SELECT request_id FROM events").result_rows}
            assert expected <= stored
            assert engine.count() == len(stored)
            engine.insert([plain_record(UUID(int=2**100))])
            assert engine.count() == len(stored) + 1

    @staticmethod
    async def _is_busy(settings: Settings) -> bool:
        try:
            async with opened(settings):
                return False
        except EventLogBusy:
            return True


class TestServer:
    def test_a_wrong_password_is_unavailable_and_not_quoted(self, server_log_settings: Settings) -> None:
        assert server_log_settings.clickhouse_url is not None
        url = server_log_settings.clickhouse_url.get_secret_value()
        wrong = url.replace("@", "wrong@")
        settings = server_log_settings.model_copy(
            update={"clickhouse_url": type(server_log_settings.clickhouse_url)(wrong)}
        )

        async def scenario() -> None:
            with pytest.raises(EventLogUnavailable) as caught:
                await EventLog.open(settings)
            assert "wrong" not in str(caught.value)

        asyncio.run(scenario())

    def test_several_logs_may_write_to_one_server(self, server_log_settings: Settings) -> None:
        async def scenario() -> None:
            record = plain_record()
            async with opened(server_log_settings) as one, opened(server_log_settings) as other:
                await asyncio.gather(*[log.append([record, plain_record()]) for log in (one, other)])
                assert await one.count() == await other.count() == 3

        asyncio.run(scenario())

    def test_the_lock_of_the_embedded_engine_is_not_taken(self, server_log_settings: Settings, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with opened(server_log_settings):
                assert not (tmp_path / "state").exists()

        asyncio.run(scenario())
