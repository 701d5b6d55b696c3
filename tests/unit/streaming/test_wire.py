"""Chunks as they are written, and text that was cut inside a character."""

from __future__ import annotations

import base64
import json

import pytest

from app.errors import InvalidRequest, MalformedJson, PayloadTooLarge
from app.streaming.decoding import ChunkDecoder
from app.streaming.wire import LINE_LIMIT, Events, Lines, chunk_of, opening_of

TEXT = "Zażółć 🦊 漢字 é"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_bytes_may_be_cut_inside_a_character(size: int) -> None:
    decoder, encoded = ChunkDecoder(), TEXT.encode()
    pieces = [decoder.feed(encoded[at : at + size]) for at in range(0, len(encoded), size)]
    assert "".join(pieces) + decoder.finish() == TEXT


def test_text_may_be_cut_between_the_halves_of_a_pair() -> None:
    decoder = ChunkDecoder()
    high, low = '{"text": "a\\ud83e"}', '{"text": "\\udd8a b"}'
    chunks = [chunk_of(line.encode()) for line in (high, low)]
    assert [decoder.feed(chunk) for chunk in chunks if chunk is not None] == ["a", "🦊 b"]
    assert decoder.finish() == ""


def test_half_a_character_at_the_end_is_marked_and_wrong_bytes_are_refused() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed("é".encode()[:1]) == ""
    assert decoder.finish() == "\ufffd"
    assert ChunkDecoder().feed("\udd8a") == "\ufffd"
    with pytest.raises(InvalidRequest):
        ChunkDecoder().feed(b"\xff\xfe")


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_lines_and_events_may_be_cut_anywhere(size: int) -> None:
    chunks = [{"text": "Zażółć"}, {"text": "🦊"}]
    lines = "\n".join(json.dumps(chunk, ensure_ascii=False) for chunk in chunks).encode()
    events = b": hello\r\n" + b"".join(b"id: 1\r\ndata: " + line + b"\r\n\r\n" for line in lines.split(b"\n"))
    for reader, content in ((Lines(), lines), (Events(), events)):
        found = [line for at in range(0, len(content), size) for line in reader.feed(content[at : at + size])]
        assert [chunk_of(line) for line in [*found, *reader.finish()]] == ["Zażółć", "🦊"]


@pytest.mark.parametrize(
    ("line", "chunk"),
    [
        (b'{"text": "a"}', "a"),
        (json.dumps({"bytes": base64.b64encode(b"\xc5").decode()}).encode(), b"\xc5"),
        (b'{"done": true}', None),
        (b'{"text": "", "bytes": null, "done": true}', None),
        (b" [DONE] ", None),
        (b'{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}}]}', "a"),
        (b'{"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": null}]}', ""),
        (b'{"choices": [], "usage": {}}', ""),
        (b'{"choices": [{"index": 0, "content_filter_results": {}, "text": ""}]}', ""),
    ],
)
def test_a_line_is_a_chunk(line: bytes, chunk: str | bytes | None) -> None:
    assert chunk_of(line) == chunk
    assert opening_of(line, text_limit=10) is None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"text": 3}', "chunk"),
        (b'{"text": "a", "bytes": "YQ=="}', "chunk"),
        (b'{"text": "kappa", "done": true}', "chunk"),
        (b'{"bytes": "YQ==", "done": true}', "chunk"),
        (b'{"bytes": "?"}', "bytes"),
        (b'"kappa"', "chunk"),
        (b'{"choices": [{"index": 1, "delta": {"content": "kappa"}}]}', "choices"),
        (b'{"choices": [{"delta": {"content": ["kappa"]}}]}', "choices"),
        (b'{"choices": "kappa"}', "choices"),
        (b'{"object": "text_completion", "choices": [{"index": 0, "text": "kappa"}]}', "choices"),
        (b'{"choices": [{"index": 0, "message": {"content": "kappa"}}]}', "choices"),
        (b"[" * 100_000, "body"),
        (b"{kappa", "body"),
    ],
)
def test_what_is_no_chunk_is_refused_without_a_word_of_it(line: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chunk_of(line)
    assert refused.value.field == field
    assert "kappa" not in refused.value.message


def test_an_opening_is_told_from_a_chunk() -> None:
    opening = opening_of(b'{"policy": "strict", "canaries": ["kappa-omega"]}', text_limit=10)
    assert opening is not None
    assert opening.policy == "strict"
    with pytest.raises(InvalidRequest) as refused:
        opening_of(b'{"polisy": "strict"}', text_limit=10)
    assert refused.value.faults == (("polisy", "is not a known field"),)
    with pytest.raises(MalformedJson):
        opening_of(b"kappa", text_limit=10)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        (b'{"policy": "strict", "canaries": ["kappa-omega"], "text": "kappa"}', ["canaries", "policy"]),
        (b'{"bytes": "YQ==", "restore_map": null}', ["restore_map"]),
        (b'{"done": true, "request_id": "kappa"}', ["request_id"]),
    ],
)
def test_a_first_chunk_with_options_beside_it_is_refused(line: bytes, options: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        opening_of(line, text_limit=10)
    assert [field for field, _ in refused.value.faults] == options
    assert all("first line of its own" in reason for _, reason in refused.value.faults)
    assert "kappa" not in refused.value.message


def test_what_another_product_puts_beside_its_choices_is_passed_over() -> None:
    line = b'{"request_id": "8f3a", "choices": [{"delta": {"content": "a"}}]}'
    assert opening_of(line, text_limit=10) is None
    assert chunk_of(line) == "a"


def test_an_event_is_bounded_also_where_its_lines_hold_nothing() -> None:
    reader = Events()
    reader.feed(b"data:\n" * LINE_LIMIT)
    with pytest.raises(PayloadTooLarge):
        reader.feed(b"data:\n")
    reader = Events()
    assert reader.feed(b"data:\n\n" * LINE_LIMIT) == []


def test_a_line_is_bounded() -> None:
    for reader in (Lines(), Events()):
        reader.feed(b"data: " + b"x" * (LINE_LIMIT - 6))
        with pytest.raises(PayloadTooLarge):
            reader.feed(b"x")


def test_events_without_data_are_no_chunks() -> None:
    events = Events()
    assert events.feed(b'data:\n\ndata: \n\ndata: {"text": "a"}\n\ndata:\ndata:\n\n') == [b'{"text": "a"}']
    assert events.finish() == []


def test_events_may_begin_with_a_byte_order_mark_however_it_is_cut() -> None:
    content = '\ufeffdata: {"policy": "strict"}\n\ndata: {"text": "\ufeffa"}\n\n'.encode()
    for size in (1, len(content)):
        reader = Events()
        found = [each for at in range(0, len(content), size) for each in reader.feed(content[at : at + size])]
        assert [json.loads(each) for each in found] == [{"policy": "strict"}, {"text": "\ufeffa"}]
