"""The whole service as its users run it: `uvicorn app:main` as a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support import free_port

CHECKOUT = Path(__file__).parents[1]
PLAIN_HTTP = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that never speak TLS: reading the authorities for each takes longer than its requests."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass
class RunningService:
    state_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    application: str = "app:main"
    port: int = field(default_factory=free_port)
    nats_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def nats_url(self) -> str:
        """Address of the embedded message server, with the token that it asks for."""
        token = (self.state_dir / "nats" / "token").read_text()
        return f"nats://{token}@127.0.0.1:{self.nats_port}"

    @property
    def log(self) -> str:
        return (self.state_dir / "service.log").read_text(errors="replace")

    def start(self, *, wait: bool = True) -> RunningService:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", self.application, "--host", "127.0.0.1"),
                    *("--port", str(self.port), "--no-access-log", *self.arguments),
                ],
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
                start_new_session=True,  # So that its workers can be ended with it.
                env={
                    **os.environ,
                    "VIGIL_STATE_DIR": str(self.state_dir),
                    "VIGIL_NATS__EMBEDDED_PORT": str(self.nats_port),
                    **self.environment,
                },
            )
        if wait:
            self.wait_for(lambda client: client.get("/health/ready").status_code == 200)
        return self

    def wait_for(self, condition: Any, *, within_s: float = START_TIMEOUT_S) -> None:
        """Return once the condition, given an HTTP client, holds."""
        assert self.process is not None
        until = time.monotonic() + within_s
        with httpx.Client(base_url=self.url, timeout=5, verify=PLAIN_HTTP) as client:
            while True:
                try:
                    if condition(client):
                        return
                except httpx.TransportError:
                    pass
                if self.process.poll() is not None:
                    raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.log}")
                if time.monotonic() > until:
                    raise AssertionError(f"not within {within_s} s:\n{self.log}")
                time.sleep(0.02)

    def stop(self) -> int:
        """End the service as an operator would; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        return status

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def end(self) -> None:
        """End whatever still runs, the embedded server of a killed service included."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        record = self.state_dir / "nats" / "server.json"
        if record.is_file():
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)

    def rows(self) -> dict[str, int]:
        """Return how often each request id is visible in the event log of this (stopped) service."""
        reader = (
            "import sys, json, clickhouse_connect\n"
            "client = clickhouse_connect.get_client(interface='chdb', path=sys.argv[1])\n"
            "found = client.query('SELECT toString(request_id), count() FROM vigil.events GROUP BY 1').result_rows\n"
            "print(json.dumps(dict(found)))\n"
        )
        output = subprocess.run(
            [sys.executable, "-c", reader, str((self.state_dir / "clickhouse").resolve())],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows: dict[str, int] = json.loads(output)
        return rows
