"""What NATS_URL may be: an address that no try could reach ends the start, and is not repeated."""

from __future__ import annotations

import pytest

from app.errors import ConfigurationError
from app.messaging.broker import ConnectionEvents, GuardBroker, build_broker
from app.settings import NatsSettings


def addresses_of(url: str) -> list[str]:
    broker = build_broker(url, NatsSettings(), ConnectionEvents(), graceful_timeout_s=1)
    assert isinstance(broker, GuardBroker)
    return broker._addresses


@pytest.mark.parametrize("url", ["", " , ", "nats://", "nats://host:port", "nats://a:1,nats://kappa:om#ega@b:1"])
def test_what_is_no_address_ends_the_start_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NATS_URL must be") as caught:
        addresses_of(url)
    assert caught.value.field == "nats_url"
    assert "kappa" not in caught.value.message


@pytest.mark.parametrize("url", ["nats://a:4222,nats://b:4222", "nats://a:4222, nats://b:4222,"])
def test_addresses_stand_between_commas_one_at_the_end_included(url: str) -> None:
    assert addresses_of(url) == ["nats://a:4222", "nats://b:4222"]
