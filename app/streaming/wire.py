"""Chunks as they are written: lines of JSON or server-sent events, one chunk or opening each."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from app.errors import InvalidRequest, MalformedJson, PayloadTooLarge
from app.stream_contracts import StreamOpening
from app.validation import parse

LINE_LIMIT: Final = 1_000_000
"""Longest line or event in bytes."""
BYTE_ORDER_MARK: Final = "\ufeff".encode()
"""What a stream of server-sent events may begin with, and no field does."""
DONE: Final = b"[DONE]"
"""How OpenAI's API ends a stream."""
CHUNK_FIELDS: Final = frozenset({"text", "bytes", "done", "choices"})
OPENING_FIELDS: Final = frozenset(StreamOpening.model_fields)


class Lines:
    """Cuts newline-delimited JSON into lines."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, content: bytes) -> list[bytes]:
        """Return the lines that are complete, without those that are blank.

        Raises:
            PayloadTooLarge: a line is longer than LINE_LIMIT.
        """
        *lines, self._pending = (self._pending + content).split(b"\n")
        if len(self._pending) > LINE_LIMIT or any(len(line) > LINE_LIMIT for line in lines):
            raise PayloadTooLarge(f"a line may take at most {LINE_LIMIT} bytes", field="body")
        return [line for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """Return the last line, which needs no line break."""
        return self.feed(b"\n")


class Events(Lines):
    """Takes the data out of server-sent events; names, ids and comments are not read."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._data: list[bytes] = []
        self._size = 0
        """Bytes of the data with a line break after each line: there may be millions of lines without content."""

    def feed(self, content: bytes) -> list[bytes]:
        """Return the data of the events that are complete, without those that are blank: some servers keep a connection
        alive by events without data.

        Raises:
            PayloadTooLarge: a line, or an event's data, is longer than LINE_LIMIT.
        """
        *lines, self._pending = (self._pending + content).split(b"\n")
        if lines and not self._begun:
            self._begun, lines[0] = True, lines[0].removeprefix(BYTE_ORDER_MARK)
        complete = []
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(self._data[-1]) + 1
            elif not line and self._data:
                complete.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if len(self._pending) + self._size > LINE_LIMIT or any(len(each) > LINE_LIMIT for each in complete):
            raise PayloadTooLarge(f"an event may take at most {LINE_LIMIT} bytes", field="body")
        return [data for data in complete if data.strip()]

    def finish(self) -> list[bytes]:
        return self.feed(b"\n\n")


def opening_of(line: bytes, *, text_limit: int) -> StreamOpening | None:
    """Return the opening that a first line is; None where it is a chunk already.

    Raises:
        InvalidRequest: it is neither, or both.
    """
    if line.strip() == DONE:
        return None
    written = _object(line)
    if CHUNK_FIELDS & written.keys():
        _check_alone(written)
        return None
    return parse(StreamOpening, line, text_limit=text_limit)


def chunk_of(line: bytes) -> str | bytes | None:
    """Return the piece of the answer that a line holds; None where it is the end.

    A line is a StreamChunk, `[DONE]`, or a chat completion chunk of OpenAI's API, whose text is its first choice's.

    Raises:
        InvalidRequest: it is none of these; says which field.
    """
    if line.strip() == DONE:
        return None
    chunk = _object(line)
    if "choices" in chunk:
        return _delta(chunk["choices"])
    text, encoded = chunk.get("text"), chunk.get("bytes")
    if chunk.get("done") is True:
        if text or encoded:
            raise InvalidRequest("must have no text or bytes beside done", field="chunk")
        return None
    if isinstance(text, str) and encoded is None:
        return text
    if isinstance(encoded, str) and text is None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("is not base64", field="bytes") from None
    raise InvalidRequest("must have a text, bytes, choices or done", field="chunk")


def _check_alone(chunk: dict[str, Any]) -> None:
    """Refuse a first chunk that also says how to judge, since that would be passed over. What OpenAI's chunks have
    beside their choices is their own."""
    options = sorted(OPENING_FIELDS & chunk.keys())
    if options and "choices" not in chunk:
        reason = "must stand in a first line of its own, before the first chunk"
        raise InvalidRequest(f"{options[0]}: {reason}", faults=tuple((option, reason) for option in options))


def _delta(choices: Any) -> str:
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise InvalidRequest("must be a list of objects", field="choices")
    if any(choice.get("index", 0) != 0 for choice in choices):
        raise InvalidRequest("may have one choice alone", field="choices")
    if any("delta" not in choice and (choice.get("text") or choice.get("message")) for choice in choices):
        # A chunk of completions, or a whole answer: nothing of it would be shown, and nothing judged.
        raise InvalidRequest("must have its text as the content of a delta", field="choices")
    delta = choices[0].get("delta") if choices else None
    content = delta.get("content") if isinstance(delta, dict) else None
    if content is not None and not isinstance(content, str):
        raise InvalidRequest("must have a text as content", field="choices")
    return content or ""


def _object(line: bytes) -> dict[str, Any]:
    try:
        # Not pydantic's parser, which refuses halves of a surrogate pair.
        written = json.loads(line)
    except (ValueError, RecursionError):
        raise MalformedJson("a line is not valid JSON", field="body") from None
    if not isinstance(written, dict):
        raise InvalidRequest("must be an object", field="chunk")
    return written
