"""The personal-data stage: find and redact, or say that the scan failed; and put back what it sealed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, get_args

from app.contracts import DecideJob, Envelope, MessageReport, Mode, PiiReport, RestoreAnswer, RestoreRequest, ScanJob
from app.errors import ConfigurationError, RestoreMapRefused
from app.pii.config import EntityName
from app.pii.conversation import scan_conversation
from app.pii.engine import PiiEngine
from app.pii.redaction import Redactor
from app.pii.restoration import restore
from app.pii.sealing import MapSealer
from app.redaction import RedactionTable
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.pii")


@dataclass(frozen=True, slots=True)
class Redactors:
    """How personal data is redacted under each policy."""

    by_policy: Mapping[str, Redactor]
    default: Redactor
    """For requests that name no policy, and for policies that do not exist, which the arbiter refuses."""

    @classmethod
    def of(cls, tables: Mapping[str, RedactionTable], default: str, hash_key: bytes) -> Redactors:
        """Check the tables of all policies.

        Raises:
            ConfigurationError: a table names an entity that does not exist, or hashes without a key: anyone could find
                out the value of such a hash by trying.
        """
        for policy, table in tables.items():
            unknown = sorted(set(table.entities) - set(get_args(EntityName)))
            if unknown:
                field = f"redaction.entities.{unknown[0]}"
                raise ConfigurationError(f"policy {policy}: {field}: is no kind of personal data", field=field)
            if table.uses("hash") and not hash_key:
                raise ConfigurationError(
                    f"policy {policy}: redaction: hash needs VIGIL_PRIVACY__HASH_KEY", field="redaction"
                )
        redactors = {policy: Redactor(table, hash_key) for policy, table in tables.items()}
        return cls(redactors, redactors[default])

    def get(self, policy: str | None) -> Redactor:
        return self.default if policy is None else self.by_policy.get(policy, self.default)


@dataclass(frozen=True, slots=True)
class PiiWorker:
    engine: PiiEngine
    threads: Executor
    redactors: Redactors
    sealer: MapSealer

    async def __call__(self, job: ScanJob, envelope: Envelope) -> DecideJob:
        """Return the job for the arbiter; a scan that fails is named in it, and the policy decides what that means."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.threads, self._scan, job, envelope)
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

    def _scan(self, job: ScanJob, envelope: Envelope) -> DecideJob:
        if job.conversation is not None:
            return self._scan_conversation(job, job.conversation, envelope)
        scan = self.engine.scan(
            job.text,
            job.language,
            job.allow_list,
            self.redactors.get(job.subject.policy),
            patterns_only=job.subject.mode is Mode.FAST,
        )
        return DecideJob(
            subject=job.subject,
            detection=job.detection,
            pii=scan.report,
            redacted_text=scan.redacted_text,
            kept=scan.kept,
            log_text=scan.log_text,
            restore_map=self.sealer.seal(envelope.request_id, scan.redaction) if job.restorable else None,
        )

    def _scan_conversation(self, job: ScanJob, conversation: Sequence[MessageReport], envelope: Envelope) -> DecideJob:
        scan = scan_conversation(
            self.engine,
            job.text,
            conversation,
            job.language,
            job.allow_list,
            self.redactors.get(job.subject.policy),
            patterns_only=job.subject.mode is Mode.FAST,
        )
        return DecideJob(
            subject=job.subject,
            detection=job.detection,
            pii=scan.report,
            redacted_text=scan.redaction.text,
            kept=scan.kept,
            log_text=scan.log_text,
            restore_map=self.sealer.seal(envelope.request_id, scan.redaction) if job.restorable else None,
            conversation=scan.messages,
        )


@dataclass(frozen=True, slots=True)
class Restorer:
    threads: Executor
    sealer: MapSealer

    async def __call__(self, request: RestoreRequest) -> RestoreAnswer:
        """Put the values of a map back into a text.

        Raises:
            RestoreMapRefused: the map cannot be opened, or belongs to another request than the one that is named.
        """
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._restore, request)

    def _restore(self, request: RestoreRequest) -> RestoreAnswer:
        opened = self.sealer.open(request.restore_map)
        if request.request_id not in (None, opened.request_id):
            raise RestoreMapRefused
        restoration = restore(request.text, opened.placeholders, backslash_is_text=opened.backslash_is_text)
        return RestoreAnswer(
            request_id=opened.request_id,
            text=restoration.text,
            restored=restoration.restored,
            missing=restoration.missing,
        )
