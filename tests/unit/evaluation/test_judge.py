"""Shows that a text is detected once and decided under each policy, as the guard decides it without personal data."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.arbiter.book import load_policies
from app.contracts import DetectionReport, Mode, Source
from app.errors import VigilError
from app.evaluation.judge import CHUNK, WARM_UP, Decision, Judge, Setup, Text, judge_all
from app.evaluation.rows import read_files
from app.settings import default_config_dir
from app.subwords import MODELS_DIR
from app.telemetry import metrics
from tests.unit.evaluation.stubs import StubDetector

POLICIES = load_policies(default_config_dir()).policies
BALANCED, STRICT = POLICIES["balanced"], POLICIES["strict"]
DATA = Path(__file__).parents[3] / "data" / "detection"


def test_each_policy_decides_about_one_detection() -> None:
    detector = StubDetector()
    found = Judge(detector, (STRICT, BALANCED), Mode.FAST)(Text("three words 31", Source.TOOL))
    assert found.decisions == (Decision(blocked=True, score=31), Decision(blocked=False, score=31))
    assert (found.words, found.failed) == (3, False)
    assert detector.seen == [("three words 31", Source.TOOL, Mode.FAST)]


def test_full_mode_is_decided_without_personal_data() -> None:
    found = Judge(StubDetector(), (BALANCED,), Mode.FULL)(Text("mail anna@example.com, 10", Source.INPUT))
    assert found.decisions == (Decision(blocked=False, score=10),)


def test_cpu_time_is_that_of_detection() -> None:
    class Busy(StubDetector):
        def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport:
            sum(range(1_000_000))
            return super().inspect(text, source, mode)

    slow, quick = (Judge(each(), (BALANCED,), Mode.FAST)(Text("text", Source.INPUT)) for each in (Busy, StubDetector))
    assert slow.cpu_ms > quick.cpu_ms >= 0


def test_a_failed_branch_is_told() -> None:
    assert Judge(StubDetector(degraded=True), (BALANCED,), Mode.FAST)(Text("text", Source.INPUT)).failed


def test_a_failed_encoder_is_told_though_light_models_stood_in() -> None:
    class Failing(StubDetector):
        def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport:
            metrics.BRANCH_DEGRADED.labels("encoder").inc()
            return super().inspect(text, source, mode)

    judge = Judge(Failing(), (BALANCED,), Mode.FULL)
    assert judge(Text("text", Source.INPUT)).failed
    assert not Judge(StubDetector(), (BALANCED,), Mode.FULL)(Text("text", Source.INPUT)).failed


def test_one_process_judges_in_order_after_a_warm_up() -> None:
    detector, steps = StubDetector(), []
    texts = [Text(f"text {number}", Source.INPUT) for number in range(20)]
    judge = Judge(detector, (BALANCED,), Mode.FAST)
    found = judge_all(judge, texts, SETUP, 1, lambda: steps.append(1))
    assert [each.decisions[0].score for each in found] == list(range(20))
    assert [text for text, _, _ in detector.seen] == [WARM_UP, *(text for text, _ in texts)]
    assert len(steps) == 20


SETUP = Setup(default_config_dir(), MODELS_DIR, (BALANCED, STRICT), Mode.FULL)


class DyingSetup(Setup):
    """Kills the process that is to become a judge."""

    def judge(self) -> Judge:
        os._exit(1)


def test_a_process_that_was_killed_is_told() -> None:
    texts = [Text("text", Source.INPUT)] * 40
    setup = DyingSetup(SETUP.config_dir, SETUP.models_dir, SETUP.policies, SETUP.mode)
    with pytest.raises(VigilError, match="a process of the evaluation was killed"):
        judge_all(Judge(StubDetector(), (BALANCED,), Mode.FAST), texts, setup, 2)


class WaitingSetup(Setup):
    """Makes judges that tell they are there, by a connection to the socket at `config_dir` that ends with their
    process, and that take a byte of it for each text."""

    def judge(self) -> Judge:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.config_dir))

        class Waiting(StubDetector):
            def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport:
                connection.sendall(b"waits")
                connection.recv(1)
                return super().inspect(text, source, mode)

        return Judge(Waiting(), self.policies, self.mode)


def judge_in_two_processes(address: str) -> None:
    """Judge in processes that wait; run by a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # What runs in the background may be started without it.
    setup = WaitingSetup(Path(address), SETUP.models_dir, SETUP.policies, SETUP.mode)
    texts = [Text("text", Source.INPUT)] * 400
    judge_all(Judge(StubDetector(), (BALANCED,), Mode.FAST), texts, setup, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_its_processes_end_with_an_evaluation_that_a_signal_ends(tmp_path: Path, number: signal.Signals) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        command = f"from {__name__} import judge_in_two_processes as judge; judge({str(tmp_path / 's')!r})"
        first = subprocess.Popen([sys.executable, "-c", command], cwd=DATA.parents[1], stderr=subprocess.DEVNULL)
        try:
            others = [listener.accept()[0] for _ in range(2)]
            for other in others:
                assert other.recv(5) == b"waits"
            first.send_signal(number)
            if number is signal.SIGINT:  # What is under way is finished.
                for other in others:
                    other.sendall(b"." * 5 * CHUNK)
            for other in others:
                with other, contextlib.suppress(ConnectionResetError):  # It had not taken all of it.
                    while other.recv(100):
                        pass
            assert first.wait() != 0
        finally:
            first.kill()
            first.wait()


def test_the_real_detector_judges_the_same_in_many_processes() -> None:
    rows = [
        row
        for name in ("direct_attacks", "tool_outputs", "everyday_benign")
        for row in read_files([DATA / f"{name}.jsonl"], limit=4)
    ]
    texts = [Text(row.text, row.source) for row in [*rows, *rows]]
    judge = SETUP.judge()
    alone, together = judge_all(judge, texts, SETUP, 1), judge_all(judge, texts, SETUP, 2)
    assert [each.decisions for each in alone] == [each.decisions for each in together]
    assert [each.words for each in together] == [len(text.text.split()) for text in texts]
    assert not any(each.failed for each in (*alone, *together))
    assert all(each.cpu_ms > 0 for each in together)
    blocked = {
        attack: [each.decisions[0].blocked for each, row in zip(alone, rows, strict=False) if row.attack is attack]
        for attack in (True, False)
    }
    assert sum(blocked[True]) / len(blocked[True]) > sum(blocked[False]) / len(blocked[False])
