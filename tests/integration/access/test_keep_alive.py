"""How long the real web server keeps connections once the service has started in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_service import CHECKOUT
from tests.support import free_port

pytestmark = pytest.mark.integration

SERVE = """
import asyncio, sys, uvicorn

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.config.timeout_keep_alive)
        self.should_exit = True

Server(uvicorn.Config("app:main", port=int(sys.argv[1]), log_level="warning")).run()
"""


def test_connections_are_kept_as_long_as_the_settings_say(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "VIGIL_STATE_DIR": str(tmp_path),
        "VIGIL_NATS__EMBEDDED_PORT": str(free_port()),
        "VIGIL_HTTP__KEEP_ALIVE_S": "1234",
    }
    command = [sys.executable, "-c", SERVE, str(free_port())]
    ended = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1234"]
