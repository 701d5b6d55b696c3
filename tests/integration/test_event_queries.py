"""Questions to the event log on the real ClickHouse engine: filters, pages, statistics, feedback, and forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.contracts import Category, DecisionRecord, Mode, PiiEntity, PiiReport, Source, Verdict
from app.errors import EventLogUnavailable, InvalidRequest, QueryTimeout, UnknownRequest
from app.events import log as log_module
from app.events import schema
from app.events.engine import Engine
from app.events.log import EventLog
from app.events.queries import Place
from app.events.reading import PAGE_BYTES
from app.identity import fingerprint, new_request_id, now
from app.log_contracts import (
    EventQuery,
    EventQuestion,
    FeedbackQuery,
    FeedbackRecord,
    FeedbackVerdict,
    ForgetKind,
    ForgetOrder,
    LogEntry,
    StatsGroup,
    StatsQuery,
    TextRecord,
)
from app.settings import Settings
from tests.unit.events.records import plain_record

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
SALT = "00112233445566778899aabbccddeeff"


def record(minutes_ago: float, **changes: Any) -> DecisionRecord:
    """A record of that long ago; changes of its answer's fields and of its own."""
    plain = plain_record(new_request_id())
    own = {name: changes.pop(name) for name in list(changes) if name in DecisionRecord.model_fields}
    received_at = NOW - timedelta(minutes=minutes_ago)
    times = {"received_at": received_at, "decided_at": received_at + timedelta(milliseconds=8)}
    return plain.model_copy(update={"answer": plain.answer.model_copy(update=changes), **times, **own})


def report(about: DecisionRecord, verdict: FeedbackVerdict, **changes: Any) -> FeedbackRecord:
    answer = about.answer
    return FeedbackRecord(
        feedback_id=new_request_id(),
        request_id=answer.request_id,
        tenant=about.tenant,
        request_key_id=about.key_id,
        given_at=NOW,
        verdict=verdict,
        decision=answer.decision,
        score=answer.score,
        mode=answer.mode,
        source=answer.source,
        policy=answer.policy,
        text_digest=about.text_digest,
    ).model_copy(update=changes)


def pii(*types: str) -> PiiReport:
    entities = [PiiEntity(type=each, start=0, end=3, score=1) for each in types]
    return PiiReport(scanned=True, scope="all", entities=entities, count=len(entities))


def order(kind: ForgetKind, value: str, asked_at: datetime | None = None) -> ForgetOrder:
    return ForgetOrder(
        forget_id=new_request_id(),
        kind=kind,
        salt=SALT,
        fingerprint=fingerprint(SALT, value),
        asked_at=asked_at or now(),
    )


@asynccontextmanager
async def holding(settings: Settings, entries: Sequence[LogEntry]) -> AsyncIterator[EventLog]:
    log = await EventLog.open(settings)
    try:
        await log.append(entries)
        yield log
    finally:
        await log.close()


def rows_of(settings: Settings, table: str) -> list[tuple[Any, ...]]:
    """Return every column of every row, in a log that nobody has open."""
    engine = Engine(settings)
    engine.open()
    try:
        return list(engine._opened.query(f"SELECT * FROM {table}").result_rows)  # noqa: S608
    finally:
        engine.close()


class TestEvents:
    def test_each_filter_leaves_the_events_it_names(self, event_log_settings: Settings) -> None:
        odd = record(
            10,
            decision=Verdict.BLOCKED,
            categories=[Category.JAILBREAK, Category.OBFUSCATION],
            source=Source.TOOL,
            mode=Mode.FULL,
            policy="strict",
            score=77,
            pii=pii("PERSON", "URL", "PERSON"),
            tenant="acme",
            key_id="k1",
        )
        reported = record(30, decision=Verdict.EXPIRED)
        plain = [record(20), record(26 * 60), record(9 * 24 * 60)]
        everything = [odd, reported, *plain]
        just_odd: list[dict[str, Any]] = [
            {"decision": ["BLOCKED"]},
            {"category": ["obfuscation", "personal_data"]},
            {"source": "tool"},
            {"mode": "full"},
            {"policy": "strict"},
            {"tenant": "acme"},
            {"key_id": "k1"},
            {"min_score": 77},
            {"pii_type": "PERSON"},
            {"since": NOW - timedelta(minutes=15)},
            {"decision": ["BLOCKED", "ALLOWED"], "policy": "strict", "min_score": 50, "max_score": 77},
        ]

        async def scenario() -> None:
            async with holding(
                event_log_settings, [*everything, report(reported, FeedbackVerdict.CORRECT, key_id="k2")]
            ) as log:

                async def found(**wanted: Any) -> list[UUID]:
                    page = await log.events(EventQuery.model_validate(wanted))
                    assert page.next_cursor is None
                    return [each.request_id for each in page.events]

                for wanted in just_odd:
                    assert await found(**wanted) == [odd.answer.request_id], wanted
                newest_first = sorted(everything, key=lambda each: each.received_at, reverse=True)
                assert await found() == [each.answer.request_id for each in newest_first]
                assert len(await found(max_score=76)) == 4
                assert len(await found(before=NOW - timedelta(minutes=15))) == 4
                # The first time a question may name; the search begins an hour and more before it.
                assert await found(before=datetime(2000, 1, 1, tzinfo=UTC)) == []
                assert await found(has_feedback=True) == [reported.answer.request_id]
                assert reported.answer.request_id not in await found(has_feedback=False)
                assert await found(tenant="nobody") == []
                (listed,) = (await log.events(EventQuery(min_score=70))).events
                assert (listed.pii_types, listed.pii_count) == (["PERSON", "URL"], 3)
                assert (listed.received_at, listed.tenant, listed.key_id) == (odd.received_at, "acme", "k1")
                (listed,) = (await log.events(EventQuery(has_feedback=True))).events
                assert listed.feedback is FeedbackVerdict.CORRECT

        asyncio.run(scenario())

    def test_pages_hold_every_event_once_also_where_times_are_equal(self, embedded_log_settings: Settings) -> None:
        records = [record(minutes_ago) for minutes_ago in (0, 1, 1, 1, 1, 90, 3000, 3000, 12 * 24 * 60) for _ in "ab"]

        async def scenario() -> None:
            async with holding(embedded_log_settings, records) as log:
                seen: list[UUID] = []
                cursor = None
                while True:
                    page = await log.events(EventQuery(limit=3, cursor=cursor))
                    seen += [each.request_id for each in page.events]
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                wanted = sorted(records, key=lambda each: (each.received_at, each.answer.request_id.int), reverse=True)
                assert seen == [each.answer.request_id for each in wanted]

        asyncio.run(scenario())

    def test_an_id_that_is_used_again_on_another_day_is_listed_and_counted_on_each(
        self, embedded_log_settings: Settings
    ) -> None:
        first = record(26 * 60)
        repeated = [first.model_copy(update={"received_at": NOW, "decided_at": NOW})] * 2

        async def scenario() -> None:
            async with holding(embedded_log_settings, [first, *repeated]) as log:
                await log.append(repeated)
                listed = (await log.events(EventQuery())).events
                assert [each.received_at for each in listed] == [NOW, first.received_at]
                assert (await log.stats(StatsQuery(since=first.received_at, before=now()))).total == 2
                assert (await log.find(first.answer.request_id), await log.count()) == (first, 1)

        asyncio.run(scenario())

    def test_an_old_store_is_brought_up_to_date_and_its_rows_are_the_default_tenants(
        self, event_log_settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_migrations = schema.load_migrations()
        old = record(10)
        engine = Engine(event_log_settings)
        client = engine._client = engine._connect()
        schema.create_database(client, event_log_settings.event_log.database)
        schema.apply_migrations(client, all_migrations[:1])
        client.command(
            "INSERT INTO events_log (request_id, received_at, decided_at, decision, mode, source, threat_level) "
            "SELECT {id:UUID}, fromUnixTimestamp64Micro({at:Int64}), fromUnixTimestamp64Micro({at:Int64}), 'ALLOWED', "
            "'fast', 'input', 'LOW'",
            parameters={"id": old.answer.request_id, "at": int(old.received_at.timestamp() * 1_000_000)},
        )
        engine.close()

        async def scenario() -> None:
            async with holding(event_log_settings, [record(5, tenant="acme", key_id="k1")]) as log:
                events = (await log.events(EventQuery())).events
                assert [(each.tenant, each.key_id) for each in events] == [("acme", "k1"), ("default", "")]
                found = await log.find(old.answer.request_id)
                assert found is not None
                assert found.tenant == "default"

        asyncio.run(scenario())

    def test_what_is_no_cursor_is_refused(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            async with holding(embedded_log_settings, []) as log:
                before_all_rows = str(Place(datetime(1, 1, 1, tzinfo=UTC), new_request_id()))
                for cursor in ("x", "AAAA", "-" * 64, str(Place(NOW, new_request_id()))[:-1], before_all_rows):
                    with pytest.raises(InvalidRequest):
                        await log.events(EventQuery(cursor=cursor))
                    with pytest.raises(InvalidRequest):
                        await log.feedback(FeedbackQuery(cursor=cursor))

        asyncio.run(scenario())

    def test_a_query_that_runs_too_long_is_said_to(self, embedded_log_settings: Settings) -> None:
        async def scenario() -> None:
            async with holding(embedded_log_settings, []) as log:
                with pytest.raises(QueryTimeout):
                    await log._read(
                        lambda reader: reader.client.query("SELECT sleep(3)", settings={"max_execution_time": 1})
                    )

        asyncio.run(scenario())

    def test_one_event_is_shown_to_its_tenant_with_its_text_only_where_it_is_asked_for(
        self, event_log_settings: Settings
    ) -> None:
        mine = record(1, tenant="acme", text_digest="cd" * 32)
        request_id = mine.answer.request_id
        text = TextRecord(
            request_id=request_id,
            tenant="acme",
            received_at=mine.received_at,
            text_digest="cd" * 32,
            text="Zażółć\x00 'x'",
        )
        other = text.model_copy(update={"text_digest": "ef" * 32, "text": "refused with 409"})

        async def scenario() -> None:
            reports = [report(mine, FeedbackVerdict.CORRECT, comment="ok", text="given")]
            async with holding(event_log_settings, [mine, text, other, *reports]) as log:
                shown = await log.event(EventQuestion(request_id=request_id, tenant="acme"))
                assert (shown.record, shown.text) == (mine, None)
                assert [(each.comment, each.text) for each in shown.feedback] == [("ok", None)]
                shown = await log.event(EventQuestion(request_id=request_id, with_text=True))
                assert shown.text == text.text
                for question in (
                    EventQuestion(request_id=request_id, tenant="other"),
                    EventQuestion(request_id=new_request_id()),
                ):
                    with pytest.raises(UnknownRequest):
                        await log.event(question)

        asyncio.run(scenario())


class TestStats:
    def test_counts_over_time_by_each_group(self, event_log_settings: Settings) -> None:
        start = NOW.replace(minute=0, second=0) - timedelta(hours=3)
        minutes = [(NOW - start).total_seconds() / 60 - offset for offset in (1, 2, 61, 62, 63)]
        records = [
            record(minutes[0], decision=Verdict.BLOCKED, categories=[Category.JAILBREAK, Category.OBFUSCATION]),
            record(minutes[1], latency_ms=100.0, pii=pii("PERSON", "PERSON", "URL")),
            record(minutes[2], latency_ms=200.0, source=Source.TOOL, pii=pii("PERSON")),
            record(minutes[3], decision=Verdict.BLOCKED, categories=[Category.JAILBREAK], tenant="acme"),
            record(minutes[4], decision=Verdict.EXPIRED, latency_ms=60_000.0),
        ]

        async def scenario() -> None:
            async with holding(event_log_settings, records) as log:

                async def series(by: StatsGroup, **wanted: Any) -> dict[str, list[int]]:
                    query = StatsQuery(by=by, since=start, before=start + timedelta(hours=3), bucket_s=3600, **wanted)
                    stats = await log.stats(query)
                    assert stats.starts == [start, start + timedelta(hours=1), start + timedelta(hours=2)]
                    assert all(each.total == sum(each.counts) for each in stats.series)
                    return {each.name: each.counts for each in stats.series}

                by_decision = {"BLOCKED": [1, 1, 0], "ALLOWED": [1, 1, 0], "EXPIRED": [0, 1, 0]}
                assert await series(StatsGroup.DECISION) == by_decision
                assert await series(StatsGroup.CATEGORY) == {"jailbreak": [1, 1, 0], "obfuscation": [1, 0, 0]}
                assert await series(StatsGroup.PII_TYPE) == {"PERSON": [1, 1, 0], "URL": [1, 0, 0]}
                assert await series(StatsGroup.SOURCE) == {"input": [2, 2, 0], "tool": [0, 1, 0]}
                assert await series(StatsGroup.TENANT) == {"default": [2, 2, 0], "acme": [0, 1, 0]}
                assert await series(StatsGroup.MODE, tenant="acme") == {"fast": [0, 1, 0]}
                stats = await log.stats(StatsQuery(since=start))
                assert stats.total == 5
                assert stats.latency_ms is not None
                assert 100 <= stats.latency_ms.p90 <= stats.latency_ms.p99 <= 200
                assert (await log.stats(StatsQuery(tenant="nobody"))).latency_ms is None

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "wanted",
        [{"since": NOW, "before": NOW}, {"since": NOW - timedelta(days=30), "bucket_s": 60}],
        ids=["no period", "too many points"],
    )
    def test_what_cannot_be_drawn_is_refused(self, embedded_log_settings: Settings, wanted: dict[str, Any]) -> None:
        async def scenario() -> None:
            async with holding(embedded_log_settings, []) as log:
                with pytest.raises(InvalidRequest):
                    await log.stats(StatsQuery(**wanted))

        asyncio.run(scenario())


class TestFeedback:
    def test_the_latest_report_of_each_key_counts_and_texts_are_read_only_when_asked_for(
        self, event_log_settings: Settings
    ) -> None:
        about = record(1, tenant="acme")
        first = report(about, FeedbackVerdict.FALSE_NEGATIVE, key_id="k1")
        changed = report(
            about,
            FeedbackVerdict.FALSE_POSITIVE,
            key_id="k1",
            given_at=NOW + timedelta(seconds=1),
            text="a 'text'",
            comment="c",
            expected=Verdict.ALLOWED,
            category=Category.JAILBREAK,
        )
        second = report(about, FeedbackVerdict.CORRECT, key_id="k2")

        async def scenario() -> None:
            async with holding(event_log_settings, [about, first, changed]) as log:
                await log.append([second])
                found = (await log.feedback(FeedbackQuery())).reports
                assert found == [changed.model_copy(update={"text": None}), second]
                assert (await log.feedback(FeedbackQuery(with_text=True))).reports == [changed]
                assert (await log.feedback(FeedbackQuery(verdict=FeedbackVerdict.FALSE_NEGATIVE))).reports == []
                assert (await log.feedback(FeedbackQuery(tenant="other"))).reports == []
                page = await log.feedback(FeedbackQuery(limit=1))
                rest = await log.feedback(FeedbackQuery(limit=1, cursor=page.next_cursor))
                assert ([each.key_id for each in page.reports], rest.reports) == (["k1"], [second])
                assert rest.next_cursor is None

        asyncio.run(scenario())

    def test_a_page_of_texts_is_bounded_by_their_bytes(self, event_log_settings: Settings) -> None:
        """And the next page goes on behind it, also where a text is longer than a page or times are equal."""
        half, whole = "a" * (PAGE_BYTES // 2), "\N{GREEK SMALL LETTER ALPHA}" * PAGE_BYTES
        given = [half, half, "short", whole, "short", half, half]
        about = record(1)
        reports = [
            report(about, FeedbackVerdict.CORRECT, key_id=f"k{place}", text=text, given_at=NOW - timedelta(seconds=at))
            for place, (text, at) in enumerate(zip(given, (0, 1, 2, 3, 4, 4, 4), strict=True))
        ]

        async def scenario() -> None:
            async with holding(event_log_settings, [report(record(2), FeedbackVerdict.CORRECT), *reports]) as log:
                seen: list[list[FeedbackRecord]] = []
                query = FeedbackQuery(with_text=True)
                while not seen or query.cursor is not None:
                    page = await log.feedback(query)
                    seen.append(page.reports)
                    query = query.model_copy(update={"cursor": page.next_cursor})
                assert [[each.text for each in page] for page in seen[:3]] == [[half, half], ["short"], [whole]]
                wanted = sorted(reports, key=lambda each: (each.given_at, each.feedback_id.int), reverse=True)
                assert [each for page in seen for each in page] == wanted
                assert [len(page) for page in seen] == [2, 1, 1, 2, 1]
                few = await log.feedback(FeedbackQuery(with_text=True, limit=1))
                assert (few.reports, few.next_cursor is not None) == (wanted[:1], True)
                none = await log.feedback(FeedbackQuery(with_text=True, tenant="nobody"))
                assert (none.reports, none.next_cursor) == ([], None)

        asyncio.run(scenario())


class TestForgetting:
    @pytest.mark.parametrize("kind", list(ForgetKind))
    def test_rows_of_an_order_are_gone_from_every_table_and_no_others(
        self, event_log_settings: Settings, kind: ForgetKind
    ) -> None:
        gone = [record(minutes, tenant="acme", key_id="k1", text_digest="11" * 32) for minutes in (1, 26 * 60)][
            : 1 if kind is ForgetKind.REQUEST else 2
        ]
        kept = record(2, tenant="acme2", key_id="k12", text_digest="22" * 32)
        value = {
            ForgetKind.REQUEST: str(gone[0].answer.request_id),
            ForgetKind.KEY: "k1",
            ForgetKind.TENANT: "acme",
            ForgetKind.TEXT: "11" * 32,
        }[kind]

        def beside(each: DecisionRecord) -> list[LogEntry]:
            own = {"request_id": each.answer.request_id, "tenant": each.tenant, "text_digest": each.text_digest}
            text = TextRecord(**own, key_id=each.key_id, received_at=each.received_at, text="secret text")
            return [text, report(each, FeedbackVerdict.CORRECT, given_at=each.received_at, text="secret text")]

        async def scenario() -> None:
            entries = [entry for each in (*gone, kept) for entry in (each, *beside(each))]
            async with holding(event_log_settings, entries) as log:
                await log.append(gone)
                removed = await log.erase(order(kind, value))
                count = len(gone)
                assert (removed.events, removed.texts, removed.feedback) == (2 * count, count, count)
                assert (await log.erase(order(kind, value))).total == 0
                assert await log.count() == 1
                assert await log.find(kept.answer.request_id) == kept

        asyncio.run(scenario())
        left = repr([rows_of(event_log_settings, table) for table in ("events_log", "event_texts", "feedback")])
        mutations = repr(rows_of(event_log_settings, "system.mutations"))
        assert left.count("22" * 32) == 3
        for secret in (*(str(each.answer.request_id) for each in gone), "'acme'", "'k1'", "11" * 32):
            assert secret not in left
            assert secret not in mutations

    def test_rows_are_searched_for_a_day_at_a_time(self, embedded_log_settings: Settings) -> None:
        days = [record(minutes, tenant="acme") for minutes in (1, 26 * 60, 26 * 60, 50 * 60)]
        wanted = order(ForgetKind.TENANT, "acme")
        engine = Engine(embedded_log_settings)
        engine.open()
        try:
            engine.insert([*days, report(days[0], FeedbackVerdict.CORRECT, tenant="acme")])
            found = [engine.search(wanted, stretch) for stretch in engine.stretches()]
        finally:
            engine.close()
        assert [(each.events, each.feedback) for each in found] == [(1, 0), (2, 0), (1, 0), (0, 1)]

    def test_what_came_after_the_order_stays(self, embedded_log_settings: Settings) -> None:
        old, new = record(10, tenant="acme"), record(1, tenant="acme")

        async def scenario() -> None:
            async with holding(embedded_log_settings, [old, new]) as log:
                removed = await log.erase(order(ForgetKind.TENANT, "acme", NOW - timedelta(minutes=5)))
                assert removed.events == 1
                assert await log.find(new.answer.request_id) == new

        asyncio.run(scenario())

    def test_an_erasure_that_is_broken_off_is_finished_by_the_next_one(
        self, embedded_log_settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = record(1)
        wanted = order(ForgetKind.REQUEST, str(gone.answer.request_id))

        async def scenario() -> None:
            async with holding(embedded_log_settings, [gone]) as log:

                def broken() -> bool:
                    raise EventLogUnavailable

                with monkeypatch.context() as patched:
                    patched.setattr(log._engine, "erasing", broken)
                    with pytest.raises(EventLogUnavailable):
                        await log.erase(wanted)
            async with holding(embedded_log_settings, []) as log:
                await log.erase(wanted)
                assert await log.count() == 0

        assert log_module.FIRST_ERASING_POLL_S < 1
        asyncio.run(scenario())
