"""A stream from its opening to its verdict: what stops it, what is held until the verdict, what record it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Thread, current_thread
from typing import Any
from uuid import UUID

import pytest

from app.arbiter.book import PolicyBook, load_policies
from app.arbiter.policy import Policy
from app.contracts import (
    BranchName,
    BranchResult,
    DetectionReport,
    GuardAnswer,
    GuardRequest,
    Mode,
    PiiReport,
    Source,
    ThreatLevel,
    Verdict,
)
from app.detection.normalise import PreparedText
from app.errors import InvalidRequest, MessagingUnavailable, Overloaded
from app.pii.engine import PiiEngine
from app.pii.redaction import Placeholder
from app.pii.sealing import RestoreMap
from app.settings import StreamSettings, default_config_dir
from app.stream_contracts import StreamEvent, StreamOpening, StreamProblem, StreamStopped, StreamText, StreamVerdict
from app.streaming.desk import StreamDesk
from app.streaming.driving import CallerGone, drive
from app.streaming.session import StreamParts, StreamSession
from app.streaming.watch import INSPECTED, LONGEST_STEP

CANARY = "kappa-omega-7319"
PROMPT = "You are a clerk. Never mention the delays at the depot, and never say who told you about them."
USER = Placeholder("USERNAME", 1, ("jnowak",))
PLAIN = "The harbour opens at dawn and the boats go out with the tide. "


@dataclass
class Inspector:
    """Takes every answer with the word ATTACK for one."""

    asked: list[str] = field(default_factory=list)

    def inspect(self, text: str, source: Source, mode: Mode = Mode.FULL) -> DetectionReport:
        assert source is Source.OUTPUT
        self.asked.append(text)
        score = 100 if "ATTACK" in text else 1
        return DetectionReport(
            branches={name: BranchResult(score=score, confidence=0.9) for name in BranchName}, model_version="test"
        )

    def suspicion(self, prepared: PreparedText, source: Source) -> float:
        return 40.0 if "attack now" in prepared.folded else 0.0


class AtOnce(Executor):
    """Does its work where it is asked to."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


@dataclass
class Desk:
    parts: StreamParts
    inspector: Inspector
    judged: list[GuardRequest] = field(default_factory=list)
    decision: Verdict = Verdict.ALLOWED
    failure: Exception | None = None

    async def judge(self, request: GuardRequest) -> bytes:
        self.judged.append(request)
        if self.failure is not None:
            raise self.failure
        assert request.request_id is not None
        answer = GuardAnswer(
            request_id=request.request_id,
            decision=self.decision,
            score=1,
            threat_level=ThreatLevel.LOW,
            categories=[],
            explanations=[],
            branches={},
            findings=[],
            boosts=[],
            pii=PiiReport(),
            sanitized_text="kappa",
            mode=request.mode,
            source=request.source,
            policy="test",
            latency_ms=1,
            model_version="test",
        )
        return answer.model_dump_json().encode()

    def session(self, **opening: Any) -> StreamSession:
        return StreamSession(StreamOpening(**opening), self.parts, self.judge)

    async def run(self, *chunks: str | bytes, **opening: Any) -> list[StreamEvent]:
        session = self.session(**opening)
        events: list[StreamEvent] = []
        for chunk in chunks:
            events += [event async for event in session.feed(chunk)]
            if session.ended:
                return events
            if session._inspection is not None:
                await asyncio.wait({session._inspection})
        return events + [event async for event in session.finish()]


@pytest.fixture(scope="module")
def book() -> PolicyBook:
    return load_policies(default_config_dir(), "balanced")


@pytest.fixture
def desk(engine: PiiEngine, book: PolicyBook) -> Iterator[Desk]:
    inspector = Inspector()

    async def inspect(request: GuardRequest) -> DetectionReport:
        return inspector.inspect(request.text, request.source, request.mode)

    with ThreadPoolExecutor(2) as threads:
        parts = StreamParts(
            finder=engine.for_parts(),
            rules=inspector,
            inspect=inspect,
            threads=threads,
            policy_of=book.get,
            restore_map_of=lambda _, __: RestoreMap(UUID(int=1), (USER,), backslash_is_text=True, expires_at=0),
            entities=engine.entities,
            canaries=(CANARY,),
            hash_key=b"",
            text_limit=5_000,
            hold_limit=2_000,
            default_language="en",
            scans_fast_mode=False,
        )
        yield Desk(parts, inspector)


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, StreamText))


def last(events: list[StreamEvent]) -> StreamVerdict:
    assert isinstance(events[-1], StreamVerdict)
    return events[-1]


async def test_an_answer_is_let_out_redacted_and_leaves_one_request_behind(desk: Desk) -> None:
    events = await desk.run("Write to an", "na@exam", "ple.com. ", PLAIN * 3, policy="strict", request_id=UUID(int=9))
    assert text_of(events) == "Write to <EMAIL_ADDRESS_1>. " + PLAIN * 3
    verdict = last(events)
    assert (verdict.decision, verdict.stopped, verdict.redacted) == (Verdict.SANITIZED, False, 1)
    assert verdict.answer is not None
    assert verdict.answer.sanitized_text is None
    (request,) = desk.judged
    assert request.text == "Write to anna@example.com. " + PLAIN * 3
    assert (request.source, request.policy, request.request_id) == (Source.OUTPUT, "strict", UUID(int=9))


@pytest.mark.parametrize(
    ("chunks", "opening", "rule"),
    [
        ((PLAIN * 2, "It is kappa-om", "ega-7319. "), {}, "leak.canary"),
        ((PLAIN * 2, "It is delta-del", "ta-42 "), {"canaries": ["delta-delta-42"]}, "leak.canary"),
        ((PLAIN * 2, PROMPT[:40], PROMPT[40:] + " "), {"system_prompt": PROMPT}, "leak.system_prompt"),
        (([*PROMPT]), {"system_prompt": PROMPT, "mode": "fast"}, "leak.system_prompt"),
    ],
)
async def test_a_secret_stops_the_stream(desk: Desk, chunks: Any, opening: dict[str, Any], rule: str) -> None:
    desk.decision = Verdict.BLOCKED
    events = await desk.run(*chunks, PLAIN, **opening)
    assert [event.reason for event in events if isinstance(event, StreamStopped)] == [rule]
    assert last(events).stopped
    assert last(events).decision is Verdict.BLOCKED
    assert "7319" not in text_of(events)
    assert "delta-42" not in text_of(events)
    assert len(desk.judged) == 1


async def test_an_attack_stops_the_stream_at_the_next_chunk_and_is_what_is_recorded(desk: Desk) -> None:
    attack = "Now ATTACK now and do what I say. "
    events = await desk.run(PLAIN * 3, attack, PLAIN, PLAIN)
    assert [event.reason for event in events if isinstance(event, StreamStopped)] == ["policy"]
    (request,) = desk.judged
    assert "ATTACK" in request.text
    assert request.text == desk.inspector.asked[-1]


async def test_inspections_grow_with_the_text_and_not_with_its_chunks(desk: Desk) -> None:
    await desk.run(*(PLAIN * 20))
    assert 3 <= len(desk.inspector.asked) <= 10


async def test_the_answer_runs_no_further_ahead_of_an_inspection_than_the_next_one_reads(desk: Desk) -> None:
    async def slow(request: GuardRequest) -> DetectionReport:
        for _ in range(1_000):  # Many times as many turns of the loop as all pieces of the answer take.
            await asyncio.sleep(0)
        return desk.inspector.inspect(request.text, request.source, request.mode)

    session = StreamSession(StreamOpening(), replace(desk.parts, inspect=slow, threads=AtOnce()), desk.judge)
    events = [event async for event in session.feed("Now ATTACK and do what I say. " + PLAIN * 60)]
    assert [event.reason for event in events if isinstance(event, StreamStopped)] == ["policy"]
    assert "ATTACK" in desk.inspector.asked[0]
    assert len(text_of(events)) <= INSPECTED


async def test_every_part_of_a_long_chunk_is_inspected_before_the_verdict(desk: Desk) -> None:
    marks = [f"{number:04}" for number in range(900)]
    await desk.run(" ".join(marks))
    unread = [mark for mark in marks if not any(mark in text for text in desk.inspector.asked)]
    assert len(" ".join(unread)) <= LONGEST_STEP


async def test_what_became_due_during_an_inspection_is_inspected_before_the_verdict(desk: Desk) -> None:
    inspections: list[str] = []
    go_on = asyncio.Event()

    async def slow(request: GuardRequest) -> DetectionReport:
        inspections.append(request.text)
        await go_on.wait()
        for _ in range(1_000):  # Many times as many turns of the loop as the end of the answer takes.
            await asyncio.sleep(0)
        return desk.inspector.inspect(request.text, request.source, request.mode)

    session = StreamSession(StreamOpening(), replace(desk.parts, inspect=slow, threads=AtOnce()), desk.judge)
    assert [event async for event in session.feed(PLAIN * 12)]
    await asyncio.sleep(0)
    assert len(inspections) == 1
    events = [event async for event in session.feed(PLAIN * 4 + "Now ATTACK and do what I say. " + PLAIN * 6)]
    go_on.set()
    events += [event async for event in session.finish()]
    assert "ATTACK" in inspections[-1]
    assert [event.reason for event in events if isinstance(event, StreamStopped)] == ["policy"]


async def test_a_secret_at_the_end_of_a_long_chunk_lets_nothing_of_it_out(desk: Desk) -> None:
    events = await desk.run(PLAIN * 30 + CANARY)
    assert text_of(events) == ""
    assert last(events).stopped


async def test_the_rest_is_not_let_out_when_the_verdict_is_blocked(desk: Desk) -> None:
    desk.decision = Verdict.BLOCKED
    events = await desk.run("A short answer.")
    assert text_of(events) == ""
    assert last(events).decision is Verdict.BLOCKED
    assert not last(events).stopped


async def test_fast_mode_and_a_policy_without_redaction_let_personal_data_through(desk: Desk) -> None:
    assert text_of(await desk.run("Write to anna@example.com", mode="fast")) == "Write to anna@example.com"


async def test_an_answer_without_words_has_a_verdict_and_no_record(desk: Desk) -> None:
    events = await desk.run(" ", "\n")
    assert text_of(events) == " \n"
    assert last(events).answer is None
    assert last(events).decision is Verdict.ALLOWED
    assert desk.judged == []


async def test_a_backslash_of_the_prompt_stays_before_what_is_filled(desk: Desk) -> None:
    events = await desk.run(r"Open C:\Users\<USERNAME_1>\docs and the rest.", restore_map="v2.sealed")
    assert text_of(events) == r"Open C:\Users\jnowak\docs and the rest."
    assert last(events).restored == 1


async def test_white_space_however_long_is_no_answer_to_inspect(desk: Desk) -> None:
    events = await desk.run("\n" * 700, PLAIN, " " * 2_100, "\n" * 700, PLAIN * 3)
    assert text_of(events) == "\n" * 700 + PLAIN + " " * 2_100 + "\n" * 700 + PLAIN * 3
    assert last(events).decision is Verdict.ALLOWED
    assert desk.inspector.asked
    assert all(map(str.strip, desk.inspector.asked))


async def test_an_unknown_policy_is_refused_at_once(desk: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        desk.session(policy="nope")
    assert refused.value.field == "policy"


async def test_as_many_streams_are_open_as_the_settings_allow(desk: Desk) -> None:
    streams = StreamDesk(desk.parts, StreamSettings(max_open=1))
    async with streams.stream(StreamOpening(), desk.judge):
        assert streams.open == 1
        with pytest.raises(Overloaded):
            async with streams.stream(StreamOpening(), desk.judge):
                pass
    assert streams.open == 0


@pytest.mark.parametrize(
    "opening", [{"restore_map": "v2.map"}, {"system_prompt": PROMPT}, {"canaries": ["delta-delta-42"]}]
)
async def test_what_an_opening_names_is_read_beside_the_event_loop(desk: Desk, opening: dict[str, Any]) -> None:
    read_in: list[Thread] = []

    def policy_of(name: str | None) -> Policy:
        read_in.append(current_thread())
        return desk.parts.policy_of(name)

    streams = StreamDesk(replace(desk.parts, policy_of=policy_of), StreamSettings(max_open=1))
    async with streams.stream(StreamOpening(**opening), desk.judge):
        assert read_in != [current_thread()]


async def test_a_stream_that_cannot_be_opened_is_not_counted(desk: Desk) -> None:
    streams = StreamDesk(desk.parts, StreamSettings(max_open=1))
    with pytest.raises(InvalidRequest):
        async with streams.stream(StreamOpening(policy="nope"), desk.judge):
            pass
    assert streams.open == 0


# --- Driven from outside ---------------------------------------------------------------------------------------------

LIMITS = StreamSettings(idle_timeout_s=0.05, pause_s=0.02)


async def driven(
    desk: Desk,
    receive: Callable[[], Awaitable[str | bytes | None]],
    limits: StreamSettings = LIMITS,
    emit: Callable[[StreamEvent], Awaitable[None]] | None = None,
    stopping: asyncio.Future[None] | None = None,
) -> list[StreamEvent]:
    events: list[StreamEvent] = []

    async def note(event: StreamEvent) -> None:
        events.append(event)

    await drive(desk.session(), receive, emit or note, limits, stopping)
    return events


def given(*chunks: str | bytes | Exception | None) -> Callable[[], Awaitable[str | bytes | None]]:
    """Return chunks one after the other, and then nothing for ever."""

    async def generate() -> AsyncIterator[str | bytes | None]:
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
        await asyncio.Event().wait()

    source = generate()
    return lambda: anext(source)


def problem(events: list[StreamEvent]) -> tuple[int, str]:
    assert isinstance(events[-1], StreamProblem)
    return events[-1].problem.status, events[-1].problem.type.rpartition(":")[2]


async def test_a_stream_ends_with_its_verdict(desk: Desk) -> None:
    assert last(await driven(desk, given(PLAIN, None))).decision is Verdict.ALLOWED


async def test_nothing_for_too_long_ends_the_stream_and_whole_sentences_came_before(desk: Desk) -> None:
    events = await driven(desk, given("It is done. And th"))
    assert text_of(events) == "It is done. "
    assert problem(events) == (408, "stream-idle")
    assert [request.text for request in desk.judged] == ["It is done. And th"]


async def test_a_stream_has_a_deadline_however_busy_it_is(desk: Desk) -> None:
    async def more() -> str:
        return ""

    limits = StreamSettings(deadline_s=0.05)
    assert problem(await driven(desk, more, limits)) == (408, "stream-idle")


PATIENT = StreamSettings(idle_timeout_s=600, pause_s=600)


async def test_a_stop_ends_a_stream_that_waits_for_its_next_chunk(desk: Desk) -> None:
    stopping = asyncio.get_running_loop().create_future()
    chunks = iter([PLAIN])

    async def receive() -> str:
        for chunk in chunks:
            return chunk
        stopping.set_result(None)
        await asyncio.Event().wait()
        raise AssertionError

    events = await asyncio.wait_for(driven(desk, receive, PATIENT, stopping=stopping), 10)
    assert problem(events) == (503, "stream-lost")
    assert [request.text for request in desk.judged] == [PLAIN]


async def test_a_stop_lets_a_stream_end_whose_chunks_have_all_come(desk: Desk) -> None:
    stopping = asyncio.get_running_loop().create_future()
    stopping.set_result(None)
    assert last(await driven(desk, given(PLAIN, PLAIN, None), stopping=stopping)).decision is Verdict.ALLOWED


async def test_a_stop_does_not_wait_for_a_caller_who_takes_no_events(desk: Desk) -> None:
    stopping = asyncio.get_running_loop().create_future()

    async def emit(event: StreamEvent) -> None:
        stopping.set_result(None)
        await asyncio.Event().wait()

    await asyncio.wait_for(driven(desk, given(PLAIN * 3, None), PATIENT, emit, stopping), 10)
    assert [request.text for request in desk.judged] == [PLAIN * 3]


async def test_too_long_an_answer_is_a_problem_and_is_recorded(desk: Desk) -> None:
    events = await driven(desk, given(PLAIN, "x" * 5_000, None))
    assert problem(events) == (413, "payload-too-large")
    assert [request.text for request in desk.judged] == [PLAIN]


async def test_a_wrong_chunk_is_a_problem_that_names_the_field(desk: Desk) -> None:
    events = await driven(desk, given(PLAIN, InvalidRequest("is not base64", field="bytes")))
    assert problem(events) == (422, "invalid-request")
    assert len(desk.judged) == 1


async def test_a_reader_that_fails_lets_nothing_more_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(PiiEngine, "find", fail)
    events = await driven(desk, given("Write to anna@example.com. ", PLAIN, PLAIN, None))
    assert text_of(events) == ""
    assert problem(events)[1] == "scan-failed"
    assert CANARY not in str(events)


async def test_a_pipeline_that_cannot_decide_holds_the_rest_back(desk: Desk) -> None:
    desk.failure = MessagingUnavailable()
    events = await driven(desk, given("A short answer.", None))
    assert text_of(events) == ""
    assert problem(events) == (503, "messaging-unavailable")


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_caller_who_goes_away_leaves_a_record(desk: Desk, stalls: bool) -> None:
    async def emit(event: StreamEvent) -> None:
        if stalls:
            await asyncio.Event().wait()
        raise CallerGone

    await driven(desk, given(PLAIN * 3, None), emit=emit)
    assert [request.text for request in desk.judged] == [PLAIN * 3]
    desk.judged.clear()
    await driven(desk, given(PLAIN, CallerGone()))
    assert [request.text for request in desk.judged] == [PLAIN]


@pytest.mark.parametrize(
    ("chunks", "evidence"),
    [
        ((f"It is {CANARY} . ",), f"It is {CANARY} . "),
        (("Now ATTACK now and do what I say. ", PLAIN, None), "Now ATTACK now and do what I say. "),
    ],
)
async def test_a_caller_who_does_not_take_the_stop_leaves_a_record(
    desk: Desk, chunks: tuple[str | None, ...], evidence: str
) -> None:
    async def emit(event: StreamEvent) -> None:
        if isinstance(event, StreamStopped):
            raise CallerGone

    await driven(desk, given(*chunks), emit=emit)
    assert [request.text for request in desk.judged] == [evidence]


async def test_a_caller_who_goes_away_before_the_verdict_leaves_one_record(desk: Desk) -> None:
    async def emit(event: StreamEvent) -> None:
        if isinstance(event, StreamVerdict):
            raise CallerGone

    await driven(desk, given(f"It is {CANARY} . "), emit=emit)
    assert len(desk.judged) == 1
