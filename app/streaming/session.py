"""One answer from its first chunk to its verdict: what is let out, what stops it, and the record that it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from app.arbiter.decide import is_threat, rate
from app.arbiter.policy import Policy
from app.contracts import DEFAULT_TENANT, DetectionReport, GuardAnswer, GuardRequest, Mode, Source, Verdict
from app.detection.leaks import Secrets
from app.errors import PayloadTooLarge, ScanFailed
from app.identity import new_request_id
from app.pii.redaction import Redactor
from app.pii.sealing import RestoreMap
from app.stream_contracts import StreamEvent, StreamOpened, StreamOpening, StreamStopped, StreamText, StreamVerdict
from app.streaming.decoding import ChunkDecoder
from app.streaming.redaction import Finder, Rules, StreamRedactor
from app.streaming.watch import INSPECTED, LONGEST_STEP, RuleReader, Sight, Steps, StreamWatch
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.streaming")

Result = TypeVar("Result")

BY_POLICY: Final = "policy"
"""Reason of a stop that an inspection led to."""
MOST_AHEAD: Final = INSPECTED - LONGEST_STEP
"""Code points that may come after what the newest inspection reads, before it is waited for: the next one reads them
all, and LONGEST_STEP before them again."""

Judge = Callable[[GuardRequest], Awaitable[bytes]]
"""Takes a request through the pipeline and returns the answer's JSON."""


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What all streams of a process share."""

    finder: Finder
    rules: RuleReader
    inspect: Callable[[GuardRequest], Awaitable[DetectionReport]]
    """Judges a text as the pipeline's first stage does."""
    threads: Executor
    policy_of: Callable[[str | None], Policy]
    restore_map_of: Callable[[str, str], RestoreMap]
    """Opens a restore map of a tenant."""
    entities: frozenset[str]
    canaries: tuple[str, ...] = field(repr=False)
    hash_key: bytes = field(repr=False)
    text_limit: int
    hold_limit: int
    default_language: str
    scans_fast_mode: bool


class StreamSession:
    """Not safe to call while a call is under way: chunks come one after the other."""

    def __init__(
        self, opening: StreamOpening, parts: StreamParts, judge: Judge, *, tenant: str = DEFAULT_TENANT
    ) -> None:
        """Open a stream of a tenant.

        Raises:
            InvalidRequest: the policy does not exist.
            RestoreMapRefused: the restore map cannot be opened, or is not the tenant's.
        """
        self.request_id: UUID = opening.request_id or new_request_id()
        self._opening = opening
        self._parts = parts
        self._judge = judge
        self._policy = parts.policy_of(opening.policy)
        opened = parts.restore_map_of(opening.restore_map, tenant) if opening.restore_map is not None else None
        known = opened.placeholders if opened is not None else ()
        mode = opening.mode if "mode" in opening.model_fields_set else Mode(self._policy.mode)
        scans = self._policy.redact and (mode is Mode.FULL or parts.scans_fast_mode)
        canaries = (*parts.canaries, *opening.canaries)
        self._redactor = StreamRedactor(
            parts.finder,
            Rules(
                redactor=Redactor(self._policy.redaction, parts.hash_key) if scans else None,
                language=opening.language,
                default_language=parts.default_language,
                allow_list=(*opening.allow_list, *self._policy.allow_list.values),
                patterns_only=mode is Mode.FAST,
                canaries=canaries,
                known=known,
                backslash_is_text=opened is not None and opened.backslash_is_text,
                entities=parts.entities if scans or known else frozenset(),
                hold_limit=parts.hold_limit,
            ),
        )
        self._watch = StreamWatch(parts.rules, Secrets(canaries, opening.system_prompt))
        self._decoder = ChunkDecoder()
        self._steps = Steps()
        self._text: list[str] = []
        self._length = 0
        self._recent = ""
        """The newest INSPECTED code points."""
        self._inspection: asyncio.Future[DetectionReport] | None = None
        self._inspected = ""
        self._ahead = 0
        """Code points that came after what the newest inspection reads."""
        self._due = False
        self._unrecorded: str | None = None
        """What stopped the stream, for as long as no decision about it is known."""
        self.ended = False
        """Whether a verdict was given, or will never be."""

    @property
    def held(self) -> int:
        """Code points that came in and may still be let out."""
        return self._redactor.held

    def opened(self) -> StreamOpened:
        return StreamOpened(request_id=self.request_id)

    async def feed(self, chunk: str | bytes) -> AsyncIterator[StreamEvent]:
        """Take a chunk in and yield what follows from it.

        Raises:
            InvalidRequest: the chunk is not UTF-8.
            PayloadTooLarge: the answer is longer than the limit.
            ScanFailed: the chunk could not be read; nothing more is let out.
            VigilError: whatever judging the whole raises.
        """
        text = self._decoder.feed(chunk)
        if text:
            async for event in self._take(text):
                yield event

    async def pause(self) -> AsyncIterator[StreamEvent]:
        """Yield what can be let out because nothing came for a while."""
        async for event in self._stop_by_inspection(wait=False):
            yield event
        if not self.ended and (released := await self._run(self._redactor.pause, beside=True)):
            yield StreamText(text=released)

    async def finish(self) -> AsyncIterator[StreamEvent]:
        """End the answer: yield its verdict, and before that its last piece, unless the verdict is BLOCKED."""
        async for event in self._take(self._decoder.finish(), last=True):
            yield event
        while not self.ended and self._inspection is not None:
            async for event in self._stop_by_inspection(wait=True):
                yield event
            self._inspect_where_due()  # What became due while the last inspection was under way.
        if self.ended:
            return
        rest = await self._run(self._redactor.finish, beside=True)
        answer = await self._judged("".join(self._text))
        self.ended = True
        if rest and (answer is None or answer.decision is not Verdict.BLOCKED):
            yield StreamText(text=rest)
        yield self._verdict(answer)

    async def abandon(self) -> None:
        """Leave a record of an answer whose stream ends here without a verdict."""
        if self._inspection is not None:
            self._inspection.cancel()
        if not self.ended:
            self.ended, self._unrecorded = True, "".join(self._text)
        if self._unrecorded is not None:
            await self._judged(self._unrecorded)

    async def _take(self, text: str, *, last: bool = False) -> AsyncIterator[StreamEvent]:
        async for event in self._stop_by_inspection(wait=False):
            yield event
        if self.ended:
            return
        if self._length + len(text) > self._parts.text_limit:
            raise PayloadTooLarge(f"the answer may have at most {self._parts.text_limit} characters", field="text")
        self._text.append(text)
        self._length += len(text)
        # A secret anywhere in a chunk lets nothing of it out. Then a long one is taken like many short ones.
        piece, rest = text[:LONGEST_STEP], text[LONGEST_STEP:]
        beside = last or self._watch.reads(text) or self._redactor.reads(piece)
        sight, released = await self._run(lambda: self._read(text, piece, last=last), beside=beside)
        if sight.leak is not None:
            async for event in self._stop(sight.leak, "".join(self._text)):
                yield event
            return
        while not self.ended:
            async for event in self._let_out(piece, released, 0.0 if rest else sight.suspicion):
                yield event
            if not rest:
                return
            piece, rest = rest[:LONGEST_STEP], rest[LONGEST_STEP:]
            released = await self._run(partial(self._redactor.feed, piece), beside=True)

    async def _let_out(self, piece: str, released: str, suspicion: float) -> AsyncIterator[StreamEvent]:
        """Have a piece inspected where that is due, and let out what can be; an inspection that the answer has left too
        far behind is waited for first."""
        async for event in self._stop_by_inspection(wait=self._ahead + len(piece) > MOST_AHEAD):
            yield event
        if self.ended:
            return
        self._ahead += len(piece)
        self._recent = (self._recent + piece)[-INSPECTED:]
        self._due = self._steps.due(piece, suspicion) or self._due
        self._inspect_where_due()
        if released:
            yield StreamText(text=released)

    def _inspect_where_due(self) -> None:
        """Have the newest part inspected where that is due and no inspection is under way."""
        if self._due and not self.ended and self._inspection is None and not self._recent.isspace():
            self._due, self._inspected, self._ahead = False, self._recent, 0
            self._inspection = asyncio.ensure_future(self._parts.inspect(self._request(self._inspected)))

    def _read(self, text: str, piece: str, *, last: bool) -> tuple[Sight, str]:
        sight = self._watch.finish() if last else self._watch.feed(text)
        return sight, "" if sight.leak is not None else self._redactor.feed(piece)

    async def _run(self, work: Callable[[], Result], *, beside: bool) -> Result:
        """Do work that reads the text, in a thread where it takes more than some microseconds."""
        try:
            if beside:
                return await asyncio.get_running_loop().run_in_executor(self._parts.threads, work)
            return work()
        except Exception as error:  # noqa: BLE001 - whatever it is, what was not read is not let out
            metrics.BRANCH_DEGRADED.labels("stream").inc()
            logger.error("a chunk could not be read: %s", type(error).__name__)  # Its message may quote the answer.
            raise ScanFailed from None

    async def _stop_by_inspection(self, *, wait: bool) -> AsyncIterator[StreamEvent]:
        """Take the result of the inspection under way, where there is one, and stop if it says so."""
        if self.ended or self._inspection is None or not (wait or self._inspection.done()):
            return
        report, self._inspection = await self._inspection, None
        if is_threat(report, self._policy, rate(report, self._policy)):
            async for event in self._stop(BY_POLICY, self._inspected):
                yield event

    async def _stop(self, reason: str, evidence: str) -> AsyncIterator[StreamEvent]:
        self.ended, self._unrecorded = True, evidence
        yield StreamStopped(reason=reason)
        answer, self._unrecorded = await self._judged(evidence), None
        yield self._verdict(answer, stopped=True)

    async def _judged(self, text: str) -> GuardAnswer | None:
        """Let the pipeline decide, so that there is one decision and one record; None for a text without words."""
        if not text.strip():
            return None
        answer = GuardAnswer.model_validate_json(await self._judge(self._request(text)), extra="allow")
        return answer.model_copy(update={"sanitized_text": None, "restore_map": None})

    def _request(self, text: str) -> GuardRequest:
        """Return what the opening says of a text; what it leaves open stays open."""
        opening = self._opening.model_dump(exclude={"restore_map", "request_id"}, exclude_unset=True)
        fields = {**opening, "text": text, "source": Source.OUTPUT, "request_id": self.request_id}
        return GuardRequest.model_validate(fields, context={"text_limit": self._parts.text_limit})

    def _verdict(self, answer: GuardAnswer | None, *, stopped: bool = False) -> StreamVerdict:
        tally = self._redactor.tally
        decision = Verdict.ALLOWED if answer is None else answer.decision
        if decision is Verdict.ALLOWED and (tally.redacted or tally.withheld):
            decision = (
                Verdict.SANITIZED
            )  # A value at the edge of what was read at once may look otherwise in the whole.
        return StreamVerdict(
            decision=Verdict.BLOCKED if stopped else decision,
            stopped=stopped,
            redacted=tally.redacted,
            withheld=tally.withheld,
            restored=tally.restored,
            answer=answer,
        )
