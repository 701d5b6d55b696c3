"""Metrics of several workers: any of them tells the sum; what ended keeps its counts and loses its gauges."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry import exposition, processes
from app.telemetry.exposition import cpu_s_of_ended
from tests.unit.telemetry.siblings import count_when_told

ACKED = ("DELIVERIES", ("arbiter-worker", "ack"), "inc")
HALF_A_SECOND = ("DECISION_SECONDS", ("fast",), "observe", 0.5)


@dataclass
class Worker:
    process: Any
    orders: Connection
    folder: Path

    def count(self, *order: Any) -> None:
        self.orders.send(order)
        assert self.orders.recv() == "done"

    def metrics(self) -> dict[str, float]:
        """Return every sample that this worker tells, by name and labels."""
        self.orders.send(None)
        return samples(self.orders.recv())

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def samples(page: str) -> dict[str, float]:
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []
    context = get_context("spawn")

    def start() -> Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=count_when_told, args=(tmp_path, theirs), daemon=True)
        process.start()
        workers.append(Worker(process, ours, Path(ours.recv())))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def test_any_worker_tells_the_sum_of_all(start_worker: Callable[[], Worker]) -> None:
    first, second = start_worker(), start_worker()
    assert first.folder == second.folder
    first.count(*ACKED, 2)
    second.count(*ACKED, 3)
    first.count(*HALF_A_SECOND)
    second.count(*HALF_A_SECOND)
    for worker in (first, second):
        told = worker.metrics()
        assert told['vigil_deliveries_total{"consumer": "arbiter-worker", "outcome": "ack"}'] == 5
        assert told['vigil_decision_seconds_count{"mode": "fast"}'] == 2
        assert told['vigil_decision_seconds_bucket{"le": "0.6", "mode": "fast"}'] == 2
        assert told['vigil_decision_seconds_bucket{"le": "0.3", "mode": "fast"}'] == 0


def test_gauges_are_summed_or_the_worst_or_the_latest(start_worker: Callable[[], Worker]) -> None:
    first, second = start_worker(), start_worker()
    for worker, waiting, connected, pending in ((first, 3, 1, 70), (second, 4, 0, 50)):
        worker.count("IN_FLIGHT", (), "set", waiting)
        worker.count("NATS_CONNECTED", (), "set", connected)
        worker.count("CONSUMER_PENDING", ("pii-worker",), "set", pending)
        worker.count("LAG_READ", (), "set", time.time())
    told = first.metrics()
    assert told["vigil_requests_in_flight{}"] == 7
    assert told["vigil_nats_connected{}"] == 0
    assert told['vigil_consumer_pending{"consumer": "pii-worker"}'] == 50


def test_what_the_server_told_is_shown_while_any_worker_still_hears_from_it(
    start_worker: Callable[[], Worker],
) -> None:
    lost, connected = start_worker(), start_worker()
    long_ago = time.time() - exposition.LAG_HOLDS_S - 1
    for worker, pending, read in ((connected, 50, time.time()), (lost, 70, long_ago)):
        worker.count("CONSUMER_PENDING", ("pii-worker",), "set", pending)
        worker.count("LAG_READ", (), "set", read)
    lost.count("IN_FLIGHT", (), "set", 4)
    told = connected.metrics()
    assert 'vigil_consumer_pending{"consumer": "pii-worker"}' not in told
    assert told["vigil_lag_read_timestamp_seconds{}"] == long_ago
    assert told["vigil_requests_in_flight{}"] == 4
    connected.count("CONSUMER_PENDING", ("pii-worker",), "set", 55)
    connected.count("LAG_READ", (), "set", time.time())
    assert lost.metrics()['vigil_consumer_pending{"consumer": "pii-worker"}'] == 55


def test_a_worker_that_died_keeps_its_counts_and_leaves_no_gauge_and_no_file(
    start_worker: Callable[[], Worker],
) -> None:
    dying, staying = start_worker(), start_worker()
    for worker in (dying, staying):
        worker.count(*ACKED, 2)
        worker.count(*HALF_A_SECOND)
        worker.count("IN_FLIGHT", (), "set", 5)
    dying.kill()
    for _ in range(2):
        told = staying.metrics()
        assert told['vigil_deliveries_total{"consumer": "arbiter-worker", "outcome": "ack"}'] == 4
        assert told['vigil_decision_seconds_bucket{"le": "0.6", "mode": "fast"}'] == 2
        assert told["vigil_requests_in_flight{}"] == 5
    assert not list(staying.folder.glob(f"*_{dying.process.pid}.db"))
    start_worker().kill()
    assert staying.metrics()['vigil_deliveries_total{"consumer": "arbiter-worker", "outcome": "ack"}'] == 4
    assert {int(path.stem.rpartition("_")[2]) for path in staying.folder.glob("*.db")} == {0, staying.process.pid}


def test_a_worker_has_its_room_from_the_start_so_that_a_full_disk_does_not_end_it(
    start_worker: Callable[[], Worker],
) -> None:
    worker = start_worker()
    worker.count(*ACKED, 2)
    worker.count(*HALF_A_SECOND)
    for gauge, labels in (("CONSUMER_PENDING", ("pii-worker",)), ("POLICY_VERSION", ("strict",)), ("IN_FLIGHT", ())):
        worker.count(gauge, labels, "set", 1)
    files = {path.name: path.stat() for path in worker.folder.glob("*.db")}
    assert len(files) == len(processes.KINDS)
    assert [name for name, file in files.items() if 512 * file.st_blocks < file.st_size] == []


def test_a_full_disk_hides_no_count_and_no_gauge(
    start_worker: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    dying, staying = start_worker(), start_worker()
    for worker in (dying, staying):
        worker.count(*ACKED, 2)
        worker.count("IN_FLIGHT", (), "set", 5)
    dying.kill()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        disk.setattr(Path, "write_text", full)
        told = samples(exposition.shared_exposition(staying.folder).decode())
    for page in (told, staying.metrics()):
        assert page['vigil_deliveries_total{"consumer": "arbiter-worker", "outcome": "ack"}'] == 4
        assert page["vigil_requests_in_flight{}"] == 5


def test_memory_and_cpu_of_all_workers_are_told(start_worker: Callable[[], Worker]) -> None:
    alone = start_worker().metrics()
    both = start_worker().metrics()
    assert both["process_resident_memory_bytes{}"] > 1.5 * alone["process_resident_memory_bytes{}"]
    assert both["process_start_time_seconds{}"] == alone["process_start_time_seconds{}"]


def test_cpu_time_does_not_fall_when_a_worker_ends(start_worker: Callable[[], Worker]) -> None:
    dying, staying = start_worker(), start_worker()
    told = [staying.metrics()["process_cpu_seconds_total{}"]]
    dying.kill()
    told += [staying.metrics()["process_cpu_seconds_total{}"] for _ in range(2)]
    alone = start_worker().metrics()["process_cpu_seconds_total{}"]
    assert told == sorted(told)
    assert told[-1] < alone < 2 * told[0]


def test_seconds_of_another_process_under_the_same_id_are_added(tmp_path: Path) -> None:
    assert cpu_s_of_ended(tmp_path, {1: 5.0, 2: 3.0}) == 0
    assert cpu_s_of_ended(tmp_path, {1: 6.0, 2: 1.0}) == 3
    assert cpu_s_of_ended(tmp_path, {1: 6.0}) == 4


def test_what_an_earlier_run_left_does_not_count_and_is_removed(
    start_worker: Callable[[], Worker], tmp_path: Path
) -> None:
    earlier = tmp_path / "metrics" / "0123456789abcdef"
    earlier.mkdir(parents=True)
    (earlier / processes.LOCK).touch()
    (earlier / "counter_1.db").write_bytes(b"")
    worker = start_worker()
    assert not earlier.exists()
    assert start_worker().folder == worker.folder


def test_another_service_of_the_same_folder_is_left_alone(start_worker: Callable[[], Worker], tmp_path: Path) -> None:
    """Its parent drew another secret."""
    worker = start_worker()
    other = (
        "import sys, multiprocessing as m; m.parent_process = lambda: 1\n"
        "from pathlib import Path; from app.telemetry import processes; print(processes.share(Path(sys.argv[1])).name)"
    )
    found = subprocess.run([sys.executable, "-c", other, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() != worker.folder.name
    worker.count(*ACKED, 1)
    assert worker.metrics()['vigil_deliveries_total{"consumer": "arbiter-worker", "outcome": "ack"}'] == 1


def test_a_process_without_siblings_keeps_its_values_to_itself(tmp_path: Path) -> None:
    assert processes.share(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_folder_that_an_operator_names_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.VARIABLE, str(tmp_path / "named"))
    assert processes.share(tmp_path / "state") == tmp_path / "named"
    assert (tmp_path / "named").is_dir()


def test_finding_the_folder_imports_no_metrics() -> None:
    check = "import sys, app.settings, app.telemetry.processes; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
