"""The detection stage's second half: whether the judged text gives away what the caller keeps secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from app.contracts import DecideJob, Envelope, GuardRequest, ScanJob
from app.detection.leaks import Secrets, find_leaks, with_leaks
from app.pinned import DetectionRules

_held: Final[ContextVar[dict[Secrets, Secrets]]] = ContextVar("vigil_secrets")


@contextmanager
def holding_secrets() -> Iterator[None]:
    """Keep what texts are compared with until the end: the messages of a chat have the same secrets, and a long prompt
    takes tens of milliseconds to make ready."""
    token = _held.set({})
    try:
        yield
    finally:
        _held.reset(token)


@dataclass(frozen=True, slots=True)
class LeakWorker:
    """Lets `detect` judge a request and adds to its report what the text gives away."""

    detect: Callable[[GuardRequest, Envelope, DetectionRules], Awaitable[ScanJob | DecideJob]]
    threads: Executor
    inline_text_limit: int
    """Texts and prompts of up to this many code points together are compared on the event loop."""
    canaries: tuple[str, ...] = field(default=(), repr=False)
    """Planted in the system prompts of this process, beside those that a request names."""

    async def __call__(self, request: GuardRequest, envelope: Envelope, rules: DetectionRules) -> ScanJob | DecideJob:
        job = await self.detect(request, envelope, rules)
        secrets = Secrets((*self.canaries, *request.canaries), request.system_prompt)
        if not secrets:
            return job
        secrets = _held.get({}).setdefault(secrets, secrets)
        if len(request.text) + len(request.system_prompt or "") <= self.inline_text_limit:
            leaks = find_leaks(request.text, request.source, secrets)
        else:
            loop = asyncio.get_running_loop()
            leaks = await loop.run_in_executor(self.threads, find_leaks, request.text, request.source, secrets)
        return job.model_copy(update={"detection": with_leaks(job.detection, leaks)}) if leaks else job
