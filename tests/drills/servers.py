"""Drills that kill or pause the message server under load."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

from nats.errors import Error as NatsError

from app.topology import DETECTION_STREAM
from tests.drills.harness import RECOVERED_WITHIN_S, Drill
from tests.drills.killed import next_moment
from tests.support import eventually, free_port

PAUSE_RATE = 100.0
"""Requests a second during a pause, so that the load spans it."""


async def server_killed(drill: Drill) -> None:
    """kill -9 of nats-server; the service starts its embedded server again by itself."""
    await drill.start(drill.service())
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(next_moment(drill))
            killed_at = time.monotonic()
            os.kill(drill.server_pid, signal.SIGKILL)
            took_s = await drill.recovered(killed_at + 0.05)
            drill.note(f"kill -9 of nats-server, {number + 1}: answers again after {took_s:.1f} s")


async def server_paused(drill: Drill) -> None:
    """SIGSTOP of nats-server for a while, then SIGCONT."""
    await drill.start(drill.service())
    async with drill.load(rate=PAUSE_RATE):
        await drill.after_answers(drill.size.requests // 4)
        pid = drill.server_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(drill.size.lasts_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        took_s = await drill.recovered(time.monotonic())
        drill.note(f"SIGSTOP of nats-server for {drill.size.lasts_s:g} s: answers again {took_s:.1f} s after SIGCONT")


@dataclass
class Node:
    """One nats-server of a cluster."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    route_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, peers: list[Node]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        routes = ", ".join(f'"nats://127.0.0.1:{peer.route_port}"' for peer in peers)
        config = self.folder / "server.conf"
        config.write_text(
            f'server_name: {self.name}\nlisten: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "store"}", max_file_store: 16GB }}\n'
            f'cluster {{ name: drill, listen: "127.0.0.1:{self.route_port}", routes: [{routes}] }}\n'
        )
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [f"{sysconfig.get_path('scripts')}/nats-server", "-c", str(config)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def leader_killed(drill: Drill) -> None:
    """A cluster of three with R3 streams: kill -9 of the node that leads the work queue; it comes back later."""
    nodes = [Node(f"node-{number}", drill.folder / f"node-{number}") for number in range(3)]
    for node in nodes:
        drill.on_end(node.kill)
        node.start(nodes)
    drill.nats_url = ",".join(f"nats://127.0.0.1:{node.port}" for node in nodes)
    await drill.start(drill.service(environment={"NATS_URL": drill.nats_url, "VIGIL_NATS__REPLICAS": "3"}))
    await eventually(lambda: _in_step(drill), within_s=RECOVERED_WITHIN_S)
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(next_moment(drill))
            async with drill.jetstream() as jetstream:
                ask = functools.partial(jetstream.stream_info, DETECTION_STREAM.name)
                cluster = (await drill.answered(ask)).cluster
            leader = next(node for node in nodes if cluster is not None and node.name == cluster.leader)
            killed_at = time.monotonic()
            leader.kill()
            took_s = await drill.recovered(killed_at + 0.05)
            drill.note(f"kill -9 of the leader {leader.name}, {number + 1}: answers again after {took_s:.1f} s")
            leader.start(nodes)
            await eventually(lambda: _in_step(drill), within_s=RECOVERED_WITHIN_S)


async def _in_step(drill: Drill) -> bool:
    """Whether all three nodes have all of the work queue."""
    try:
        async with drill.jetstream() as jetstream:
            cluster = (await jetstream.stream_info(DETECTION_STREAM.name)).cluster
    except (NatsError, TimeoutError):
        return False
    replicas = (cluster and cluster.replicas) or []
    return len(replicas) == 2 and all(peer.current and not peer.offline for peer in replicas)
