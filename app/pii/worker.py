"""The personal-data stage: find and redact, or say that the scan failed; and put back what it sealed."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Final, get_args
from uuid import UUID

from app.contracts import (
    DecideJob,
    Envelope,
    GuardedText,
    Mode,
    PiiReport,
    RestoreAnswer,
    RestoreRequest,
    ScanJob,
    Source,
)
from app.errors import Overloaded, PolicyRefused, RestoreMapRefused
from app.pii.config import EntityName
from app.pii.conversation import ConversationScan, scan_conversation
from app.pii.engine import PiiEngine, PiiScan
from app.pii.queue import BoundedQueue
from app.pii.redaction import Redactor
from app.pii.restoration import restore
from app.pii.sealing import MapSealer
from app.pinned import ScanRules
from app.redaction import RedactionTable
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.pii")


KEPT_REDACTORS: Final = 256
MOST_RESTORING: Final = 32
"""Texts to restore in work or waiting for a thread, with bodies of up to 1.5 MB. The largest takes 50 ms: two threads
that are free have answered the last of them within a second."""


def check_kinds(table: RedactionTable) -> None:
    """Check that a policy's table names only kinds of personal data that exist.

    Raises:
        PolicyRefused: it names another; says which.
    """
    unknown = sorted(set(table.entities) - set(get_args(EntityName)))
    if unknown:
        field = f"redaction.entities.{unknown[0]}"
        raise PolicyRefused(f"{field}: is no kind of personal data", field=field)


@dataclass(frozen=True, slots=True)
class Redactors:
    """Carries out the tables of policies; one redactor for each version."""

    hash_key: bytes = field(repr=False)
    _made: OrderedDict[str, Redactor] = field(default_factory=OrderedDict, repr=False)

    def check(self, table: RedactionTable) -> None:
        """Check that a policy's table can be carried out.

        Raises:
            PolicyRefused: it names a kind that does not exist, or hashes without a key: anyone could find out the value
                of such a hash by trying.
        """
        check_kinds(table)
        if table.uses("hash") and not self.hash_key:
            raise PolicyRefused("redaction: hash needs VIGIL_PRIVACY__HASH_KEY", field="redaction")

    def of(self, rules: ScanRules) -> Redactor:
        redactor = self._made.get(rules.fingerprint)
        if redactor is None:
            redactor = self._made[rules.fingerprint] = Redactor(rules.table, self.hash_key)
            while len(self._made) > KEPT_REDACTORS:
                self._made.popitem(last=False)
        return redactor


@dataclass(frozen=True, slots=True)
class PiiWorker:
    engine: PiiEngine
    threads: Executor
    redactors: Redactors
    sealer: MapSealer
    rules: Callable[[GuardedText], Awaitable[ScanRules]]
    """What the version of the policy that a text is pinned to says of personal data."""

    async def __call__(self, job: ScanJob, envelope: Envelope) -> DecideJob:
        """Return the job for the arbiter; a scan that fails is named in it, and the policy decides what that means.

        Raises:
            PolicyUnavailable: the version of the policy that the text is pinned to cannot be read.
            RestoreMapRefused: the job's restore map could not be used when the request came.
        """
        rules = await self.rules(job.subject)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.threads, self._scan, job, envelope, rules)
        except RestoreMapRefused:
            raise
        except Exception as error:  # noqa: BLE001 - any failure of the scan degrades it, and its text may quote the prompt
            metrics.BRANCH_DEGRADED.labels("pii").inc()
            logger.error("scan for personal data failed: %s", type(error).__name__)
            report = PiiReport(scanned=False, degraded=True, language=job.language)
            return DecideJob(
                subject=job.subject,
                detection=job.detection,
                pii=report,
                redacted_text=None,
                conversation=job.conversation,
            )

    def _scan(self, job: ScanJob, envelope: Envelope, rules: ScanRules) -> DecideJob:
        redactor, earlier = self.redactors.of(rules), None
        if job.restore_map is not None:
            # As of when the request was accepted: it may have waited since.
            earlier = self.sealer.open(job.restore_map, envelope.tenant, envelope.received_at)
            redactor = replace(redactor, known=earlier.placeholders)
        asked = (job.language, _never_personal(job, rules), redactor)
        patterns_only = job.subject.mode is Mode.FAST
        scan: PiiScan | ConversationScan
        messages = None
        if job.conversation is None:
            of_a_tool = job.subject.source is Source.TOOL
            scan = self.engine.scan(job.text, *asked, patterns_only=patterns_only, may_be_json=of_a_tool)
        else:
            scan = scan_conversation(self.engine, job.text, job.conversation, *asked, patterns_only=patterns_only)
            messages = scan.messages
        named = envelope.given_id or envelope.request_id  # As the caller knows it: `POST /restore` answers with it.
        sealed = self.sealer.seal(named, scan.redaction, envelope.tenant, earlier) if job.restorable else None
        return DecideJob(
            subject=job.subject,
            detection=job.detection,
            pii=scan.report,
            redacted_text=scan.redaction.text,
            kept=scan.kept,
            log_text=scan.log_text,
            restore_map=sealed,
            conversation=messages,
        )


def _never_personal(job: ScanJob, rules: ScanRules) -> list[str]:
    return [*job.allow_list, *rules.never_personal] if rules.never_personal else job.allow_list


class Restorer:
    """Puts values back into texts, in the threads that detection and the scan work in too."""

    def __init__(
        self,
        threads: Executor,
        sealer: MapSealer,
        deadline_s: float,
        is_same: Callable[[str, UUID, UUID], bool] = lambda _, one, other: one == other,
    ) -> None:
        """Begin.

        Args:
            threads: the work is done there.
            sealer: opens maps.
            deadline_s: seconds within which a text is restored or refused.
            is_same: whether two ids are of one request of a tenant.
        """
        self._sealer = sealer
        self._is_same = is_same
        self._queue = BoundedQueue(threads, MOST_RESTORING, deadline_s)

    def refusal(self) -> Overloaded | None:
        """Return what a text that comes now is refused with, or None."""
        return self._queue.refusal()

    async def __call__(self, request: RestoreRequest, tenant: str) -> RestoreAnswer:
        """Put the values of a tenant's map back into a text.

        Raises:
            Overloaded: more texts are waiting than can be answered in time, or it was not done within the deadline.
            RestoreMapRefused: the map cannot be opened, belongs to another tenant, or to another request than the one
                that is named.
        """
        try:
            return await self._queue.run(lambda: self._restore(request, tenant))
        except TimeoutError:
            raise Overloaded from None

    def _restore(self, request: RestoreRequest, tenant: str) -> RestoreAnswer:
        opened = self._sealer.open(request.restore_map, tenant)
        asked = request.request_id
        if asked is not None and not self._is_same(tenant, asked, opened.request_id):
            raise RestoreMapRefused
        restoration = restore(request.text, opened.placeholders, backslash_is_text=opened.backslash_is_text)
        return RestoreAnswer(
            request_id=asked or opened.request_id,
            text=restoration.text,
            restored=restoration.restored,
            missing=restoration.missing,
        )
