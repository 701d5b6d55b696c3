"""Personal data found and replaced on request, beside the pipeline: in its threads, bounded, with a deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from app.contracts import Anonymized, AnonymizeJob, PiiEntity, PiiQuery
from app.errors import DecisionTimeout, Overloaded, ScanFailed
from app.pii.anonymizing import anonymize
from app.pii.engine import PiiEngine
from app.pii.queue import BoundedQueue

logger: Final = logging.getLogger("vigil.pii")

MOST_WAITING: Final = 64
"""Requests in work or waiting for a thread: at 5 to 50 ms each, what is refused beyond would wait for seconds."""
Result = TypeVar("Result")


class PiiDesk:
    def __init__(self, engine: PiiEngine, threads: Executor, deadline_s: float) -> None:
        self._engine = engine
        self._queue = BoundedQueue(threads, MOST_WAITING, deadline_s)

    async def find(self, query: PiiQuery) -> list[list[PiiEntity]]:
        """Return all personal data of each text, in order and without overlaps.

        Raises:
            Overloaded: more requests are waiting than can be answered in time.
            DecisionTimeout: not answered within the deadline.
            ScanFailed: a failure of the engine; never told as "nothing found".
        """
        return await self._run(lambda: [self._find(text, query) for text in query.texts])

    async def anonymize(self, job: AnonymizeJob) -> Anonymized:
        """Replace what was found in a text; raises as `find` does."""
        return await self._run(lambda: anonymize(job))

    def kinds(self, language: str | None) -> list[str]:
        """Return the kinds that are looked for in a language, or in any."""
        return self._engine.kinds(language)

    def recognizers(self, language: str | None) -> list[str]:
        """Return the names of the recognizers that read a language, or any."""
        return self._engine.recognizers(language)

    def _find(self, text: str, query: PiiQuery) -> list[PiiEntity]:
        spans, _ = self._engine.find(text, query.language, query.allow_list)
        return [
            PiiEntity(type=span.entity, start=span.start, end=span.end, score=round(span.score, 2)) for span in spans
        ]

    async def _run(self, work: Callable[[], Result]) -> Result:
        try:
            return await self._queue.run(work)
        except Overloaded:
            raise
        except TimeoutError:
            raise DecisionTimeout("the text was not read in time; try again") from None
        except Exception as error:  # noqa: BLE001 - any failure of the scan, and its text may quote what was read
            logger.error("scan for personal data failed: %s", type(error).__name__)
            raise ScanFailed from None
