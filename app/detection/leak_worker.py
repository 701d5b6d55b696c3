"""The detection stage's second half: whether the judged text gives away what the caller keeps secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeVar

from app.contracts import DecideJob, Envelope, GuardRequest, ScanJob
from app.detection.leaks import Leak, Secrets, find_leaks, find_leaks_together, with_leaks
from app.pinned import DetectionRules

Result = TypeVar("Result")
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
        secrets = self._secrets(request)
        if not secrets:
            return job
        size = len(request.text) + len(request.system_prompt or "")
        leaks = await self._run(size, lambda: find_leaks(request.text, request.source, secrets))
        return job.model_copy(update={"detection": with_leaks(job.detection, leaks)}) if leaks else job

    async def together(self, request: GuardRequest, texts: Sequence[str]) -> list[tuple[int, Leak]]:
        """Return what several outputs of the request's conversation give away together, with the number of the text
        that holds each part."""
        secrets = self._secrets(request)
        if not secrets:
            return []
        size = sum(map(len, texts)) + len(request.system_prompt or "")
        return await self._run(size, lambda: find_leaks_together(texts, secrets))

    def _secrets(self, request: GuardRequest) -> Secrets:
        secrets = Secrets((*self.canaries, *request.canaries), request.system_prompt)
        return _held.get({}).setdefault(secrets, secrets) if secrets else secrets

    async def _run(self, size: int, find: Callable[[], Result]) -> Result:
        if size <= self.inline_text_limit:
            return find()
        return await asyncio.get_running_loop().run_in_executor(self.threads, find)
