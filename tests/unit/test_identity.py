"""Request ids are ordered by time, digests are stable."""

from __future__ import annotations

from app.identity import new_request_id, text_digest


def test_request_ids_are_version_7_unique_and_ordered_by_time() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert {each.version for each in ids} == {7}
    assert len(set(ids)) == 1000
    milliseconds = [each.int >> 80 for each in ids]
    assert milliseconds == sorted(milliseconds)


def test_a_digest_depends_on_the_text_and_the_key() -> None:
    assert text_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert text_digest("abc", b"key") != text_digest("abc", b"other key")
    assert text_digest("\ud800") != text_digest("\ud801")
