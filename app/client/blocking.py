"""The blocking client."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

import httpx2

from .calls import NO_PROXY, headers, judged, judged_each, rule
from .exchange import Call, Lost, Outcome, Reply, Steps, find, restore
from .patience import Attempts, Patience
from .streaming import HttpStream, StreamOptions, Telling
from .streams import BlockingStream
from .types import ChatMessage, Decision, GuardInput, GuardOptions, OnFailure, Restored

Result = TypeVar("Result")


class Client:
    """The guard over HTTP; one object serves all threads of a process and keeps its connections.

    Args:
        url: where the guard is, as `http://127.0.0.1:8000`.
        on_failure: what is decided when the guard gives no answer; there is no default, since only the caller knows.
        api_key: sent as a bearer token.
        patience: how long and how often a call tries.
        http: a client of httpx2 with its own proxies, certificates or limits; the caller closes it.
        tls: certificates for streams, which have connections of their own; the system's by default.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        on_failure: OnFailure,
        api_key: str | None = None,
        patience: Patience | None = None,
        http: httpx2.Client | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._on_failure = rule(on_failure)
        self._patience = patience or Patience()
        self._url = url.rstrip("/")
        self._headers = headers(api_key)
        self._own = http is None
        self._http = http or httpx2.Client(mounts=NO_PROXY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self._http.close()

    def guard(
        self,
        text: str | None = None,
        *,
        messages: Sequence[ChatMessage] | None = None,
        **options: Unpack[GuardOptions],
    ) -> Decision:
        """Judge one text, or a chat; `Decision.apply` and `Decision.apply_to` then return what to use.

        Raises:
            Refused: the guard does not take this request.
            NoAnswer: there is no decision, and `on_failure` is "raise".
        """
        return self._run(judged(text, options, self._patience, self._on_failure, messages))

    def stream(self, chunks: Iterable[str], **options: Unpack[StreamOptions]) -> BlockingStream:
        """Return the pieces of a model's answer that may be shown, while it comes.

        Iterate over them once; the decision is there afterwards. They raise:
            Blocked: the answer is BLOCKED; what was shown before was let out by the guard, nothing more follows.
            Refused: the guard does not take this stream.
            NoAnswer: it failed. Under "block" that is Blocked; under "allow" an answer passes unjudged where the
                stream cannot be opened, and one that has begun raises.
        """
        return BlockingStream(
            chunks,
            Telling(options),
            lambda: HttpStream(self._url, self._headers),
            self._tls,
            self._patience,
            self._on_failure,
        )

    def guard_batch(self, texts: Iterable[str | GuardInput], **options: Unpack[GuardOptions]) -> list[Decision]:
        """Judge several texts; return their decisions in the same order. An item may have options of its own.

        Raises:
            BatchFailed: some have no decision.
        """
        return self._run(judged_each(texts, options, self._patience, self._on_failure))

    def find(self, request_id: UUID) -> Decision:
        """Read an earlier decision.

        Raises:
            UnknownRequest, RequestExpired: there is none.
        """
        return self._run(find(request_id, Attempts(self._patience)))

    def restore(self, text: str, restore_map: str, *, request_id: UUID | None = None) -> Restored:
        """Put the values of a sanitized text back into a model's answer.

        Raises:
            InvalidRequest: the map is not this guard's, was changed or has expired.
        """
        fields: dict[str, Any] = {"text": text, "restore_map": restore_map, "request_id": request_id}
        return self._run(restore(fields, Attempts(self._patience)))

    def _run(self, steps: Steps[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Call):
                outcome = self._carry(step)
            else:
                time.sleep(step.seconds)
                outcome = None

    def _carry(self, call: Call) -> Outcome:
        fields = self._headers | ({"Content-Type": "application/json"} if call.body is not None else {})
        try:
            response = self._http.request(
                call.method, self._url + call.path, content=call.body, headers=fields, timeout=call.timeout_s
            )
        except httpx2.RequestError as error:
            return Lost(type(error).__name__)
        return Reply(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
        )
