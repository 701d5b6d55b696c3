"""The network of the tagger of names and of its teacher: pretrained layers with a judgement of each sub-word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.pii.tagger import LOOKS
from app.subwords import WIDTH, SubWordTable
from app.training.base import EPSILON, POSITIONS, Pretrained
from app.training.encoder import START_ID
from app.training.network import Layer, Linear, pretrained_network
from app.training.tagging import KINDS, Marking, Packed, in_16_bits

HEAD_RATE: Final = 5.0
"""How many times faster the judgement learns than the pretrained layers."""
LAYER_DECAY: Final = 0.93
"""Each layer learns so much slower than the one above it."""


class Network(Marking):
    """Pretrained layers that are also told how each word looks: they were trained on small letters."""

    start: Tensor
    positions: Tensor

    def __init__(self, start: Tensor, layers: int, *, rounds: bool, inner: int | None = None) -> None:
        """Make one whose layers are still those of torch's random state.

        Args:
            start: embedding of what stands before each text; shape (1, WIDTH).
            layers: how many.
            rounds: whether it learns to compute with the 8 bits that it ships with.
            inner: units of a layer's inner part, by default as many as the pretrained ones have.
        """
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("positions", torch.zeros(POSITIONS, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer(inner=inner) for _ in range(layers))
        self.look = nn.Linear(LOOKS, WIDTH)
        nn.init.zeros_(self.look.weight)
        nn.init.zeros_(self.look.bias)
        self.widen = Linear(WIDTH + LOOKS, WIDTH)
        self.mark = nn.Linear(WIDTH, KINDS)
        for module in self.modules():
            if isinstance(module, Linear):
                module.rounds = rounds

    @classmethod
    def pretrained(cls, pretrained: Pretrained, table: SubWordTable, layers: int, *, rounds: bool) -> Self:
        """Make one of the first pretrained layers, its judgement from torch's random state."""
        network = cls(start_of(table), layers, rounds=rounds)
        source = pretrained_network(pretrained, exits=(layers,))
        network.positions.copy_(source.positions)
        network.norm.load_state_dict(source.norm.state_dict())
        network.layers.load_state_dict(source.layers.state_dict())
        return network

    def groups(self) -> list[dict[str, Any]]:
        layers: list[dict[str, Any]] = [
            {"params": list(layer.parameters()), "scale": LAYER_DECAY ** (len(self.layers) - 1 - number)}
            for number, layer in enumerate(self.layers)
        ]
        return [*layers, {"params": list(_parameters(self.look, self.widen, self.mark)), "scale": HEAD_RATE}]

    def logits(self, packed: Packed) -> Tensor:
        with in_16_bits():
            result: Tensor = self(packed.words, packed.looks, packed.present)
            return result.float()

    def forward(self, words: Tensor, looks: Tensor, present: Tensor) -> Tensor:
        """Return logits, (texts, length, KINDS).

        `words` is (texts, length, WIDTH), `looks` (texts, length, LOOKS), `present` (texts, length).
        """
        texts, length, _ = words.shape
        words = torch.cat((self.start.expand(texts, 1, WIDTH), words), dim=1)
        present = torch.cat((present.new_ones(texts, 1), present), dim=1)
        states = self.norm(words + self.positions[: length + 1])
        states = torch.cat((states[:, :1], states[:, 1:] + self.look(looks)), dim=1)
        for layer in self.layers:
            states = layer(states, present)
        seen = torch.cat((states[:, 1:], looks.to(states.dtype)), dim=-1)
        result: Tensor = self.mark(functional.gelu(self.widen(seen, present[:, 1:, None])))
        return result


@torch.no_grad()
def slim(network: Network, inner: int, batches: Iterable[Packed]) -> Network:
    """Return the network with `inner` units in each layer's inner part: those that add most to the layer's result, by
    the size of what they put out over some text, times that of the weights which it is read with."""
    narrows = [layer.narrow for layer in network.layers]
    sizes = [torch.zeros(narrow.in_features) for narrow in narrows]

    def measure(number: int) -> Callable[..., None]:
        def add(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
            states, present = inputs
            sizes[number] += (states.float().abs() * present).sum(dim=(0, 1))

        return add

    hooks = [narrow.register_forward_pre_hook(measure(number)) for number, narrow in enumerate(narrows)]
    network.eval()
    for batch in batches:
        network.logits(batch)
    for hook in hooks:
        hook.remove()
    weights = network.state_dict()
    for number, narrow in enumerate(narrows):
        kept = (sizes[number] * narrow.weight.norm(dim=0)).topk(inner).indices.sort().values
        for name in ("widen.weight", "widen.bias"):
            weights[f"layers.{number}.{name}"] = weights[f"layers.{number}.{name}"][kept]
        weights[f"layers.{number}.narrow.weight"] = narrow.weight[:, kept]
    slimmer = Network(network.start, len(narrows), rounds=True, inner=inner)
    slimmer.load_state_dict(weights)
    return slimmer


def start_of(table: SubWordTable) -> Tensor:
    """Return the embedding of what stands before each text; shape (1, WIDTH)."""
    return torch.from_numpy(table.embeddings(torch.tensor([START_ID]).numpy()))


def _parameters(*modules: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for module in modules for parameter in module.parameters())
