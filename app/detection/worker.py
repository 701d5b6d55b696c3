"""The detection stage: judge a text by the policy it is pinned to, and say what comes next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from app.contracts import DecideJob, DetectionReport, Envelope, GuardRequest, Mode, PiiReport, ScanJob
from app.detection.phrases import CompiledLists, nothing_to_judge, with_denied
from app.detection.recent import Inspector
from app.pinned import DetectionRules

KEPT_LISTS: Final = 32
"""Policies whose compiled lists are held; an automaton of hundreds of phrases takes some megabytes."""


@dataclass(frozen=True, slots=True)
class DetectionWorker:
    detector: Inspector
    threads: Executor
    inline_text_limit: int
    """Texts up to this many code points are judged on the event loop in fast mode, where a hand-over would cost more;
    the encoder of full mode takes milliseconds and always runs in a thread."""
    hash_key: bytes
    scans_fast_mode: bool = False
    """Whether texts of fast mode go to the scan for personal data too."""
    _lists: OrderedDict[tuple[str, str], CompiledLists] = field(default_factory=OrderedDict, repr=False)

    async def __call__(self, request: GuardRequest, envelope: Envelope, rules: DetectionRules) -> ScanJob | DecideJob:
        """Judge a text by the version of the policy that it is pinned to."""
        text = request.text
        mode = rules.mode_of(request)
        if mode is Mode.FAST and len(text) <= self.inline_text_limit:
            report = self._judge(request, mode, rules)
        else:
            loop = asyncio.get_running_loop()
            report = await loop.run_in_executor(self.threads, self._judge, request, mode, rules)
        subject = rules.subject_of(request, self.hash_key)
        if mode is Mode.FULL or self.scans_fast_mode:
            return ScanJob(
                text=text,
                language=request.language,
                allow_list=request.allow_list,
                restorable=request.restorable,
                restore_map=request.restore_map,
                subject=subject,
                detection=report,
            )
        return DecideJob(subject=subject, detection=report, pii=PiiReport(), redacted_text=None)

    def _judge(self, request: GuardRequest, mode: Mode, rules: DetectionRules) -> DetectionReport:
        text = request.text
        if not rules.has_lists:
            return self.detector.inspect(text, request.source, mode, rules.branches)
        lists = self._compiled(rules)
        denied, shadow_denied = lists.denied(text)
        rest = lists.allow.remainder(text) if lists.allow is not None else text
        if rest.isspace():
            report = nothing_to_judge(rules.branches, self.detector.model_version)
        else:
            report = self.detector.inspect(rest, request.source, mode, rules.branches)
            if rest is not text:
                report = report.model_copy(update={"allowed": "part"})
        return with_denied(report, denied, shadow_denied)

    def _compiled(self, rules: DetectionRules) -> CompiledLists:
        key = rules.pin.fingerprint, rules.shadow.fingerprint if rules.shadow is not None else ""
        compiled = self._lists.get(key)
        if compiled is None:
            compiled = self._lists[key] = CompiledLists.of(rules)
            while len(self._lists) > KEPT_LISTS:
                self._lists.popitem(last=False)
        return compiled
