"""What the log says of a connection: an outage is told, and does not fill the log."""

from __future__ import annotations

import time

import pytest

from app.messaging.broker import SAID_AGAIN_S, ConnectionEvents
from tests.metric_values import growth_of


async def test_the_same_error_is_logged_once_a_minute_however_often_the_client_tries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: at)
    events = ConnectionEvents()
    with growth_of("vigil_nats_connection_events_total", event="error") as counted:
        for _ in range(5):
            await events.error(ConnectionRefusedError())
        assert caplog.messages == ["connection error: connection refused"]
        at += SAID_AGAIN_S
        await events.error(ConnectionRefusedError())
        assert len(caplog.messages) == 2
    assert counted.value == 6


async def test_another_error_and_the_first_after_a_connection_are_logged_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = ConnectionEvents()
    await events.error(ConnectionRefusedError())
    await events.error(TimeoutError())
    await events.reconnected()
    await events.error(TimeoutError())
    assert caplog.messages == [
        "connection error: connection refused",
        "connection error: TimeoutError",
        "reconnected",
        "connection error: TimeoutError",
    ]
