"""LiteLLM's released proxy as a process of its own, set up as a page of docs/ says."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests import pages
from tests.support import free_port

START_TIMEOUT_S = 300.0
MASTER_KEY = f"sk-{secrets.token_hex(32)}"
"""Without one that is hard to guess the proxy does not start."""
SERVICE = "http://127.0.0.1:8000"
MODEL = "http://127.0.0.1:9000/v1"
"""The addresses that stand in the pages."""


class Proxy:
    def __init__(self, page: str, folder: Path, binaries: Path, *, service_url: str, model_url: str) -> None:
        [shown] = pages.blocks(page, "yaml")
        assert SERVICE in shown
        assert MODEL in shown
        self._config = folder / "config.yaml"
        self._config.write_text(shown.replace(SERVICE, service_url).replace(MODEL, model_url))
        self._log = folder / "proxy.log"
        self._binaries = binaries
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> Proxy:
        command = [str(self._binaries / "litellm"), "--config", str(self._config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self._port), "--telemetry", "False"],
                stdout=log,
                stderr=log,
                cwd=self._config.parent,
                env={
                    **os.environ,
                    # Nothing of a test leaves the machine.
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_MASTER_KEY": MASTER_KEY,
                    "VIGIL_GUARD_API_KEY": "any",
                    "NO_PROXY": "127.0.0.1",
                },
            )
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log
            try:
                if httpx.get(f"{self.url}/health/liveliness", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"not up within {START_TIMEOUT_S} s:\n{self.log}")

    def chat(self, *messages: tuple[str, str], **fields: Any) -> httpx.Response:
        """Ask the model through the proxy, as any client of OpenAI's API would."""
        body = {"model": "small", "messages": [{"role": role, "content": text} for role, text in messages], **fields}
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)

    def streamed(self, *messages: tuple[str, str]) -> tuple[str, list[Any]]:
        """Return the text of a streamed answer, and all events."""
        response = self.chat(*messages, stream=True)
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        if not lines:
            events = [response.json()]
        choices = [choice for event in events for choice in event.get("choices") or []]
        return "".join(choice["delta"].get("content") or "" for choice in choices), events

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def content_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content
