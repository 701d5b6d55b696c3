"""Layers that become slimmer keep what matters, and the rest makes up for what was left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from app.training import network, slimming  # noqa: E402
from app.training.network import Layer, Network, Shape  # noqa: E402
from app.training.slimming import slim  # noqa: E402

EXITS = (1, 2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 32, "HEADS": 4, "INNER": 64}.items():
        monkeypatch.setattr(network, name, value)


def made() -> tuple[Network, Callable[[], Any], Any, Any]:
    """Return a network, what has it read some text, and the text."""
    torch.manual_seed(2)
    net = Network(EXITS, rounds=False).eval()
    words, present = torch.randn(60, 12, 32), torch.ones(60, 12)
    present[:30, 9:] = 0
    return net, lambda: net(words, present), words, present


def test_units_that_say_the_same_as_others_are_left_out_and_nothing_is_lost() -> None:
    net, read, words, present = made()
    with torch.no_grad():
        for layer in net.layers:
            layer.widen.weight[40:] = layer.widen.weight[:24]  # Said by others already, and weighed otherwise.
            layer.widen.bias[40:] = layer.widen.bias[:24]
    slimmer = slim(net.layers, [Shape(heads=4, inner=40)] * 2, read)
    before = read()
    net.layers = torch.nn.ModuleList(slimmer)
    for ours, theirs in zip(net.eval()(words, present), before, strict=True):
        there = present > 0
        assert torch.allclose(ours.states[there], theirs.states[there], atol=0.02)
    assert all(layer.narrow.weight.shape == (32, 40) for layer in slimmer)


def test_what_is_left_makes_up_for_heads_and_units_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    net, read, words, present = made()
    before = read()

    def distance(layers: list[Layer]) -> float:
        other, *_ = made()
        other.layers = torch.nn.ModuleList(layers)
        after = other.eval()(words, present)
        return float((after[-1].states - before[-1].states)[present > 0].detach().square().mean())

    adjusted = distance(slim(net.layers, [Shape(heads=3, inner=40)] * 2, read))

    def first(weight: Any, covariance: Any, count: int, group: int) -> Any:
        return torch.arange(count * group)

    monkeypatch.setattr(slimming, "_kept", first)
    assert adjusted < 0.8 * distance(slim(net.layers, [Shape(heads=3, inner=40)] * 2, read))


def test_the_network_stays_as_it_was_and_of_the_text_what_is_there_is_measured() -> None:
    net, read, words, _ = made()
    before = {name: values.clone() for name, values in net.state_dict().items()}
    slimmer = slim(net.layers, [Shape(heads=2, inner=32)] * 2, read)
    words[:30, 9:] = 1e3  # Behind the texts' ends.
    again = slim(net.layers, [Shape(heads=2, inner=32)] * 2, read)
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())
    assert not any(layer.merge._forward_pre_hooks for layer in net.layers)
    for ours, theirs in zip(slimmer, again, strict=True):
        assert torch.allclose(ours.narrow.weight, theirs.narrow.weight, atol=1e-4)
        assert (ours.heads, ours.attend.out_features, ours.merge.in_features) == (2, 48, 16)


def test_a_layer_that_has_its_shape_stays() -> None:
    net, read, *_ = made()
    first, second = slim(net.layers, [Shape(heads=2, inner=32), Shape()], read)
    assert (first.heads, first.narrow.in_features) == (2, 32)
    assert second is net.layers[1]
