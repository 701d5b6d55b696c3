"""Text out of chunks that were cut anywhere: inside a code point's bytes, or between the halves of a surrogate pair."""

from __future__ import annotations

import codecs
from typing import Final

from app.errors import InvalidRequest

HIGH_HALVES: Final = range(0xD800, 0xDC00)


class ChunkDecoder:
    """Joins what belongs together; a half that is never completed becomes U+FFFD."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._half = ""

    def feed(self, chunk: str | bytes) -> str:
        """Return the text that is complete.

        Raises:
            InvalidRequest: bytes that are not UTF-8.
        """
        if isinstance(chunk, bytes):
            try:
                chunk = self._utf8.decode(chunk)
            except UnicodeDecodeError:
                raise InvalidRequest("is not UTF-8", field="bytes") from None
        text, self._half = self._half + chunk, ""
        if text and ord(text[-1]) in HIGH_HALVES:
            text, self._half = text[:-1], text[-1]
        return _paired(text)

    def finish(self) -> str:
        """Return what is left: nothing, or a mark in place of half a character."""
        pending = bool(self._half) or bool(self._utf8.getstate()[0])
        return "\ufffd" if pending else ""


def _paired(text: str) -> str:
    """Return the text with pairs of halves as the characters that they are; lone ones are replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
