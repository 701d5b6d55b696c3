"""A model's answer judged as it comes: what is said over HTTP and NATS alike, without any connection.

HTTP is spoken by h11 and not by httpx2, which sends a whole body before it reads the first byte of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict
from urllib.parse import SplitResult, urlsplit
from uuid import UUID, uuid4

import h11
from pydantic import ValidationError

from .errors import Blocked, InvalidRequest, NoAnswer, Unavailable, UnexpectedAnswer
from .exchange import Lost, Reply, encode, error_of
from .types import Decision, Mode, OnFailure, Verdict

PATH: Final = "/guard/stream"
LONGEST_CHUNK: Final = 16_384
"""Characters of one chunk; longer ones are sent as several, so that what comes back fits the buffers in between."""
READ_BYTES: Final = 65_536
DONE: Final[Mapping[str, Any]] = {"done": True}
PORTS: Final = {"http": 80, "https": 443}
Event = Mapping[str, Any]


class StreamOptions(TypedDict, total=False):
    """What may be said of an answer before it comes; the guard's own defaults hold for what is left out."""

    mode: Mode
    policy: str
    language: str
    """ISO 639-1 code of the answer."""
    metadata: Mapping[str, str | int | float | bool | None]
    allow_list: Sequence[str]
    canaries: Sequence[str]
    system_prompt: str
    restore_map: str
    """Of the prompt's decision: its placeholders are filled with their values as they pass."""
    request_id: UUID | str


class Telling:
    """What the guard has told of one answer."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(options.keys() - StreamOptions.__optional_keys__)
        if unknown:
            raise TypeError(f"unknown option: {', '.join(unknown)}")
        given = {name: value for name, value in options.items() if value is not None}
        try:
            self.request_id = UUID(str(given.get("request_id") or uuid4()))
        except ValueError:
            raise InvalidRequest("request_id must be a UUID") from None
        self.opening: bytes = encode({**given, "request_id": str(self.request_id)})
        self.decision: Decision | None = None

    def hear(self, event: Event | Reply | Lost) -> str:
        """Take what came and return the text to show, empty where there is none.

        Raises:
            Blocked: the verdict is BLOCKED.
            NoAnswer, Refused: the stream failed.
        """
        if isinstance(event, Lost):
            raise Unavailable(f"the stream was lost: {event.reason}", request_id=self.request_id)
        if isinstance(event, Reply):
            raise error_of(event, self.request_id)
        kind = event.get("event")
        if kind == "text":
            return str(event.get("text", ""))
        if kind == "problem":
            problem = event.get("problem")
            status = problem.get("status") if isinstance(problem, Mapping) else None
            code = status if isinstance(status, int) else 500
            raise error_of(Reply(code, {}, json.dumps(problem).encode()), self.request_id)
        if kind == "verdict":
            self.decision = self._decision(event)
            if self.decision.blocked:
                raise Blocked(self.decision)
        return ""

    def by_rule(self, error: NoAnswer, on_failure: OnFailure) -> NoAnswer | Blocked:
        """Return what is raised where a stream that has begun fails: what was not judged cannot pass."""
        if on_failure != "block":
            return error
        return Blocked(Decision.by_rule(Verdict.BLOCKED, self.request_id, error))

    def _decision(self, event: Event) -> Decision:
        answer = event.get("answer") or {}
        try:
            return Decision.model_validate({"request_id": self.request_id, **answer, "decision": event.get("decision")})
        except (ValidationError, TypeError):
            raise UnexpectedAnswer("the verdict does not have the guard's shape", request_id=self.request_id) from None


class HttpStream:
    """One request and its answer, side by side on a connection of their own."""

    def __init__(self, url: str, fields: Mapping[str, str]) -> None:
        self.address: SplitResult = urlsplit(url.rstrip("/") + PATH)
        self._fields = fields
        self._http = h11.Connection(h11.CLIENT)
        self._response: h11.Response | None = None
        self._content = b""
        self.over = False
        """Whether nothing more comes."""

    @property
    def host(self) -> str:
        return self.address.hostname or ""

    @property
    def port(self) -> int:
        return self.address.port or PORTS.get(self.address.scheme, 80)

    def begin(self, opening: bytes) -> bytes:
        """Return the head of the request and its first line."""
        request = h11.Request(
            method="POST",
            target=self.address.path,
            headers=[
                *((name, value) for name, value in self._fields.items() if name != "Accept"),
                *(("Host", self.address.netloc.rpartition("@")[2]), ("Transfer-Encoding", "chunked")),
                *(("Content-Type", "application/x-ndjson"), ("Accept", "application/x-ndjson")),
            ],
        )
        return self._written(request) + self._written(h11.Data(data=opening + b"\n"))

    def chunk(self, chunk: bytes) -> bytes:
        return self._written(h11.Data(data=chunk + b"\n"))

    def finish(self) -> bytes:
        return self._written(h11.EndOfMessage())

    def hear(self, content: bytes) -> list[Event | Reply | Lost]:
        """Take bytes of the answer, none for its end, and return what they tell."""
        heard: list[Event | Reply | Lost] = []
        try:
            self._http.receive_data(content)
            while not self.over:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.Response):
                    self._response = event
                elif isinstance(event, h11.Data):
                    self._content += bytes(event.data)
                    heard += self._events()
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    self.over = True
                    heard.append(self._refusal() or Lost("it ended without a verdict"))
        except (h11.RemoteProtocolError, ValueError) as error:
            self.over = True
            heard.append(Lost(type(error).__name__))
        return heard

    def _events(self) -> list[Event | Reply | Lost]:
        if self._response is None or self._response.status_code != 200:
            return []
        *lines, self._content = self._content.split(b"\n")
        found = [json.loads(line) for line in lines if line.strip()]
        return [each if isinstance(each, dict) else Lost("not an event") for each in found]

    def _refusal(self) -> Reply | None:
        response = self._response
        if response is None or response.status_code == 200:
            return None
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Reply(response.status_code, fields, self._content)

    def _written(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        return self._http.send(event) or b""


def chunks_of(piece: str) -> list[bytes]:
    """Return a piece of the answer as chunks of the guard."""
    return [json.dumps({"text": piece[at : at + LONGEST_CHUNK]}).encode() for at in range(0, len(piece), LONGEST_CHUNK)]
