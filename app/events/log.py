"""The event log as the rest of the process sees it: asynchronous, with every failure an EventLogUnavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from app.contracts import DecisionRecord
from app.errors import EventLogUnavailable, Overloaded, QueryTimeout, VigilError
from app.events.engine import Engine
from app.events.reading import Reader
from app.events.turns import Turns
from app.log_contracts import (
    EventDetail,
    EventPage,
    EventQuery,
    EventQuestion,
    FeedbackPage,
    FeedbackQuery,
    ForgetOrder,
    LogEntry,
    Removed,
    Stats,
    StatsQuery,
)
from app.settings import Settings
from app.tls import hung_up, refusal

Result = TypeVar("Result")

FIRST_ERASING_POLL_S: Final = 0.05
LAST_ERASING_POLL_S: Final = 1.0
TIMEOUT_EXCEEDED: Final = 159
"""ClickHouse's error code of a query that ran past `max_execution_time`."""
UNANSWERED: Final = "The event log does not answer in time."
HUNG_UP: Final = "the server hung up; over TLS that may mean that it asks for a client certificate"


class EventLog:
    """Decisions in ClickHouse: appended in batches, one visible row for each request id.

    All calls of the client run in one thread of their own, one after another: the client blocks, and the embedded
    engine is one per process. Those that erase have a thread and a client beside it where ClickHouse is a server. What
    is written goes before what is asked; of questions a bounded number waits, each for `event_log.query_timeout_s` at
    most (`app/events/turns.py`).
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = Turns()
        self._erasing_turns = Turns(passing=True) if engine.erases_apart else self._turns
        self._failure: str | None = None
        """Why the last call that was no question failed; None when it did not."""
        self._closed = False

    @classmethod
    async def open(cls, settings: Settings) -> EventLog:
        """Connect, create the database, apply migrations and retention.

        The embedded engine lies in `state_dir/clickhouse`; `clickhouse_url` names a server instead.

        Raises:
            EventLogBusy: another process of this machine has the embedded engine open; it may be gone a second later.
            EventLogUnavailable: the server or the folder cannot be used now.
            ConfigurationError: the address cannot be used, or the database is newer than this program.
        """
        log = cls(Engine(settings))
        try:
            await log._write("opened", log._engine.open)
        except BaseException:
            log._abandon()
            raise
        return log

    @classmethod
    async def probe(cls, settings: Settings) -> None:
        """Return when the configured server's table can be read; makes and changes nothing there.

        Raises:
            EventLogUnavailable: it cannot; the service makes database and table when it starts.
            ConfigurationError: the address cannot be used.
        """
        log = cls(Engine(settings))
        try:
            await log._write("reached", log._engine.probe)
        finally:
            log._abandon()

    async def append(self, records: Sequence[LogEntry]) -> None:
        """Insert all entries, in one block for each table; when this returns they survive the process and the machine.

        A record that is in the log already may be appended again: the first decision stays the visible one.
        When this is cancelled the insert still goes on.

        Raises:
            EventLogUnavailable: it is not known that the records are in the log; the same call can be made again.
        """
        if records:
            await self._write("written", lambda: self._engine.insert(records))

    async def find(self, request_id: UUID) -> DecisionRecord | None:
        """Return the record of a request's first decision, or None when the log has none.

        It equals the record that was appended, except that texts are None under `privacy.store = hash`.

        Raises:
            Overloaded: more questions wait than can be answered in time, or its turn did not come in time.
            QueryTimeout: it took too long.
            EventLogUnavailable: the log cannot be read.
        """
        return await self._read(lambda reader: reader.find(request_id))

    async def events(self, query: EventQuery) -> EventPage:
        """Return a page of events, newest first.

        Raises:
            InvalidRequest: the cursor is none.
            Overloaded, QueryTimeout, EventLogUnavailable: as `find`.
        """
        return await self._read(lambda reader: reader.events(query))

    async def event(self, question: EventQuestion) -> EventDetail:
        """Return everything about one request.

        Raises:
            UnknownRequest: there is none, or it is another tenant's.
            Overloaded, QueryTimeout, EventLogUnavailable: as `find`.
        """
        return await self._read(lambda reader: reader.event(question))

    async def stats(self, query: StatsQuery) -> Stats:
        """Count events over time.

        Raises:
            InvalidRequest: the period is none, or has too many points.
            Overloaded, QueryTimeout, EventLogUnavailable: as `find`.
        """
        return await self._read(lambda reader: reader.stats(query))

    async def feedback(self, query: FeedbackQuery) -> FeedbackPage:
        """Return a page of reports, newest first; raises as `events`."""
        return await self._read(lambda reader: reader.feedback(query))

    async def erase(self, order: ForgetOrder) -> Removed:
        """Delete the rows of an order; return how many there were, once they are gone.

        Raises:
            EventLogUnavailable: it is not known that they are gone; the same call can be made again.
        """
        removed = Removed()
        for stretch in await self._erase("read", self._engine.stretches):
            removed = removed.plus(await self._erase("read", partial(self._engine.search, order, stretch)))
        await self._erase("written", lambda: self._engine.erase(order, removed))
        pause_s = FIRST_ERASING_POLL_S
        while await self._erase("read", self._engine.erasing):
            # Between the looks other calls have their turn: a deletion may take minutes.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_ERASING_POLL_S)
        return removed

    async def count(self) -> int:
        """Return the number of visible rows, which is the number of requests.

        Raises:
            Overloaded, QueryTimeout, EventLogUnavailable: as `find`.
        """
        return await self._read(lambda _: self._engine.count())

    async def ping(self, within_s: float | None = None) -> None:
        """Return when the log's table can be read, which is tried before questions that wait.

        A question under way may take longer than `within_s` and says nothing against the log: then what the last write
        or look found still holds.

        Raises:
            EventLogUnavailable: it cannot be read, or does not answer within `within_s` seconds.
        """
        try:
            await self._write("reached", self._engine.ping, within_s)
        except Overloaded:
            if self._failure is not None:
                raise EventLogUnavailable(self._failure) from None
        except QueryTimeout:
            self._failure = UNANSWERED
            raise EventLogUnavailable(UNANSWERED) from None

    async def close(self) -> None:
        """Finish the calls under way and close; a second close does nothing.

        A call that erases on a server is not waited for, not by the end of the process either: its search may take
        `event_log.erase_timeout_s`. The server ends one whose caller hangs up, and a deletion goes on there.

        Raises:
            EventLogUnavailable: the client failed to close; the log is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        if self._engine.erases_apart:
            self._erasing_turns.abandon(self._engine.close_eraser)
        await self._turns.close(partial(_guarded, "closed", self._engine.close))

    async def _read(self, question: Callable[[Reader], Result]) -> Result:
        self._check_open()
        call = partial(_guarded, "read", lambda: question(self._engine.reader))
        return await self._turns.read(call, self._engine.query_timeout_s)

    async def _write(self, done: str, call: Callable[[], Result], within_s: float | None = None) -> Result:
        """Make a call that waits for no question; what comes of it says whether the log can be used."""
        self._check_open()
        try:
            result = await self._turns.write(partial(_guarded, done, call), within_s)
        except EventLogUnavailable as error:
            self._failure = error.message
            raise
        except QueryTimeout:
            if within_s is not None:
                raise
            # A limit of the server's own; who writes tries again, as with any log that cannot be written to.
            self._failure = UNANSWERED
            raise EventLogUnavailable(UNANSWERED) from None
        self._failure = None
        return result

    async def _erase(self, done: str, call: Callable[[], Result]) -> Result:
        """Make a call that erases, for which no row waits where ClickHouse is a server; of the log it says nothing."""
        self._check_open()
        try:
            return await self._erasing_turns.write(partial(_guarded, done, call))
        except QueryTimeout:
            raise EventLogUnavailable(UNANSWERED) from None

    def _check_open(self) -> None:
        if self._closed:
            raise EventLogUnavailable("The event log is closed.")

    def _abandon(self) -> None:
        """Close after a call that may still be running, without waiting for it."""
        self._closed = True
        self._turns.abandon(self._engine.close)
        if self._engine.erases_apart:
            self._erasing_turns.abandon(self._engine.close_eraser)


def _guarded(done: str, call: Callable[[], Result]) -> Result:
    """Make the call; a failure names the refused handshake, or its class and ClickHouse code.

    Never the message, which may quote a row.
    """
    try:
        return call()
    except VigilError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever failed, its message and its cause may quote a row
        if getattr(error, "code", None) == TIMEOUT_EXCEEDED:
            raise QueryTimeout from None
        code, name = getattr(error, "code", None), getattr(error, "name", None)
        detail = refusal(error) or (HUNG_UP if hung_up(error) else f"{type(error).__name__} {code or ''} {name or ''}")
        raise EventLogUnavailable(f"The event log cannot be {done}: {' '.join(detail.split())}.") from None
