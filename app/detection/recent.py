"""Remembers what was said of texts lately: a chat sends its whole history with every turn."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Protocol

from app.contracts import ALL_BRANCHES, BranchName, DetectionReport, Mode, Source

KEPT_REPORTS: Final = 4096
"""A report with MOST_FINDINGS takes about 4 KB."""
MOST_FINDINGS: Final = 20
DIGEST_BYTES: Final = 16


class Inspector(Protocol):
    """Judges a text by every branch."""

    @property
    def model_version(self) -> str: ...

    def inspect(
        self, text: str, source: Source, mode: Mode = Mode.FULL, branches: frozenset[BranchName] = ALL_BRANCHES
    ) -> DetectionReport: ...


@dataclass(frozen=True, slots=True)
class RecentReports:
    """Judges each text once as long as it is among the last ones; safe to call from several threads.

    Texts are known by a digest under a key of this process: no text is kept.
    """

    inspector: Inspector
    capacity: int = KEPT_REPORTS
    _key: bytes = field(default_factory=lambda: os.urandom(DIGEST_BYTES), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _reports: OrderedDict[tuple[bytes, Source, Mode, frozenset[BranchName]], DetectionReport] = field(
        default_factory=OrderedDict, repr=False
    )

    @property
    def model_version(self) -> str:
        return self.inspector.model_version

    def inspect(
        self, text: str, source: Source, mode: Mode = Mode.FULL, branches: frozenset[BranchName] = ALL_BRANCHES
    ) -> DetectionReport:
        encoded = text.encode("utf-8", "surrogatepass")
        key = (hashlib.blake2b(encoded, digest_size=DIGEST_BYTES, key=self._key).digest(), source, mode, branches)
        with self._lock:
            known = self._reports.get(key)
            if known is not None:
                self._reports.move_to_end(key)
                return known
        report = self.inspector.inspect(text, source, mode, branches)
        failed = any(result.degraded for result in report.branches.values())
        if not failed and len(report.findings) <= MOST_FINDINGS:
            with self._lock:
                self._reports[key] = report
                if len(self._reports) > self.capacity:
                    self._reports.popitem(last=False)
        return report
