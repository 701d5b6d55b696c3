"""A model behind OpenAI's API that answers what a test says, and keeps every request as evidence of what reached it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK = 7
"""Characters of one chunk of a streamed answer: values are cut in their middle."""


class StubModel:
    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer = "Paris."
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.requests.append(body)
                if body.get("stream"):
                    self._send("text/event-stream", b"".join(model.events()))
                else:
                    self._send("application/json", json.dumps(model.completion()).encode())

            def _send(self, media_type: str, content: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", media_type)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing: the requests are kept."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        """What the last request's messages said."""
        return [message["content"] for message in self.requests[-1]["messages"]]

    def completion(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.answer}
        return self._envelope("chat.completion", {"message": message, "finish_reason": "stop"}) | {
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        }

    def events(self) -> Iterator[bytes]:
        for start in range(0, len(self.answer), CHUNK):
            delta = {"role": "assistant", "content": self.answer[start : start + CHUNK]}
            yield self._event({"delta": delta, "finish_reason": None})
        yield self._event({"delta": {}, "finish_reason": "stop"})
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _event(self, choice: dict[str, Any]) -> bytes:
        return f"data: {json.dumps(self._envelope('chat.completion.chunk', choice))}\n\n".encode()

    def _envelope(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1,
            "model": "small",
            "choices": [{"index": 0, **choice}],
        }
