"""The envelope survives the headers, and headers from strangers cannot misuse it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.contracts import Envelope
from app.messaging import envelope as envelopes
from app.topology import DLQ_STREAM, Header

STORED_AT = datetime(2026, 5, 1, 12, 0, 0, 123456, UTC)


def read(headers: dict[str, str], sequence: int = 7) -> Envelope:
    return envelopes.from_headers(headers, stream="S", sequence=sequence, stored_at=STORED_AT)


def test_an_envelope_comes_back_as_it_was_sent() -> None:
    sent = Envelope(
        request_id=uuid4(),
        received_at=STORED_AT - timedelta(seconds=1),
        deadline=STORED_AT + timedelta(seconds=4),
        reply_to="_INBOX.abc.1",
        tenant="acme",
        key_id="0123456789abcdef",
        given_id=uuid4(),
    )
    headers = envelopes.to_headers(sent, "id")
    assert headers["Nats-Msg-Id"] == "id"
    assert read(headers) == sent


def test_an_envelope_without_a_caller_has_no_reply_headers() -> None:
    headers = envelopes.to_headers(Envelope(request_id=uuid4(), received_at=STORED_AT), "id")
    assert Header.REPLY_TO not in headers
    assert Header.DEADLINE not in headers


def test_a_message_without_headers_gets_the_same_id_at_each_delivery_and_arrives_when_it_was_stored() -> None:
    assert read({}) == read({})
    assert read({}).request_id != read({}, sequence=8).request_id
    assert read({}).received_at == STORED_AT


@pytest.mark.parametrize(
    "subject",
    [
        "vigil.guard.input",
        "$JS.API.STREAM.DELETE.VIGIL_DETECTION",
        "_INBOX.>",
        "_INBOX.*.1",
        "_INBOX.a b",
        "_INBOX.a\r\nPUB x 1",
        "_INBOX..a",
        "_INBOX.",
        "_INBOX." + "a" * 300,
        "_INBOX.ż",
    ],
)
def test_a_reply_goes_only_to_an_inbox(subject: str) -> None:
    assert read({Header.REPLY_TO: subject}).reply_to is None


@pytest.mark.parametrize(
    "stated", ["9999-12-31T00:00:00+00:00", "0001-01-01T00:00:00+00:00", "2026-05-01T12:00:01+00:00"]
)
def test_an_arrival_that_cannot_be_true_is_replaced_by_when_the_message_was_stored(stated: str) -> None:
    assert read({Header.RECEIVED_AT: stated}).received_at == STORED_AT


def test_a_dead_letter_that_is_replayed_keeps_its_arrival_as_long_as_it_is_kept() -> None:
    arrival = STORED_AT - DLQ_STREAM.max_age
    assert read({Header.RECEIVED_AT: arrival.isoformat()}).received_at == arrival


@pytest.mark.parametrize("value", ["", "Acme", "-acme", "a b", "a\r\nb: c", "a" * 64, "ż"])
def test_a_tenant_that_cannot_be_one_counts_as_absent(value: str) -> None:
    assert read({Header.TENANT: value}).tenant == "default"
    assert read({Header.KEY_ID: value + "\n" + "x" * 40}).key_id == ""


@pytest.mark.parametrize("value", ["", "yesterday", "9" * 400, "2026-13-01", "\x00"])
def test_an_unusable_header_counts_as_absent(value: str) -> None:
    envelope = read({Header.CORRELATION_ID: value, Header.RECEIVED_AT: value, Header.DEADLINE: value})
    assert envelope == read({})
