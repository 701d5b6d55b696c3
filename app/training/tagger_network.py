"""The network of the tagger of names and of its teacher: pretrained layers with a judgement of each sub-word."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.pii.tagger import AROUND, DOUBT, LOOKS
from app.subwords import WIDTH, SubWordTable
from app.training.base import EPSILON, POSITIONS, Pretrained
from app.training.encoder import START_ID
from app.training.network import Layer, Linear, Shape, pretrained_network
from app.training.slimming import slim
from app.training.tagging import KINDS, Marking, Packed, in_16_bits, mean_error

HEAD_RATE: Final = 5.0
"""How many times faster the judgement learns than the pretrained layers."""
LAYER_DECAY: Final = 0.93
"""Each layer learns so much slower than the one above it."""
GLANCE_SHARE: Final = 0.5
"""Weight of the loss of what the first layer judges, beside that of the last."""


class Network(Marking):
    """Pretrained layers that are also told how each word looks: they were trained on small letters.

    The first layer judges too (`glance`), the others read on only around what it leaves in doubt, and the last one
    judges the doubtful alone; not in a teacher, which judges at its end alone.
    """

    start: Tensor
    positions: Tensor

    def __init__(
        self,
        start: Tensor,
        layers: int,
        *,
        rounds: bool,
        shape: Shape | None = None,
        glances: bool = True,
    ) -> None:
        """Make one whose layers are still those of torch's random state.

        Args:
            start: embedding of what stands before each text; shape (1, WIDTH).
            layers: how many.
            rounds: whether it learns to compute with the 8 bits that it ships with.
            shape: of its layers; none is that of the pretrained ones.
            glances: whether the first layer judges too.
        """
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("positions", torch.zeros(POSITIONS, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer(shape=shape) for _ in range(layers))
        self.look = nn.Linear(LOOKS, WIDTH)
        nn.init.zeros_(self.look.weight)
        nn.init.zeros_(self.look.bias)
        self.widen = Linear(WIDTH + LOOKS, WIDTH)
        self.mark = nn.Linear(WIDTH, KINDS)
        self.glance = nn.Linear(WIDTH + LOOKS, KINDS) if glances else None
        if self.glance is not None:
            nn.init.zeros_(self.glance.weight)
            nn.init.zeros_(self.glance.bias)
        for module in self.modules():
            if isinstance(module, Linear):
                module.rounds = rounds

    @classmethod
    def pretrained(
        cls, pretrained: Pretrained, table: SubWordTable, layers: int, *, rounds: bool, glances: bool = True
    ) -> Self:
        """Make one of the first pretrained layers, its judgement from torch's random state."""
        network = cls(start_of(table), layers, rounds=rounds, glances=glances)
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
        judges = [self.look, self.widen, self.mark, *([] if self.glance is None else [self.glance])]
        return [*layers, {"params": list(_parameters(*judges)), "scale": HEAD_RATE}]

    def logits(self, packed: Packed) -> Tensor:
        with in_16_bits():
            glanced, studied, logits = self(packed.words, packed.looks, packed.present)
            return torch.where(studied[:, :, None], logits, glanced).float()

    def loss(self, packed: Packed, full_batch: int) -> Tensor:
        """The last judgement is asked for what it is shown alone, the first for everything."""
        with in_16_bits():
            glanced, studied, logits = self(packed.words, packed.looks, packed.present)
        last = mean_error(logits, packed.wanted, packed.weights * studied, full_batch)
        if self.glance is None:
            return last
        return last + GLANCE_SHARE * mean_error(glanced, packed.wanted, packed.weights, full_batch)

    def forward(self, words: Tensor, looks: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first layer's logits, (texts, length, KINDS), what the last one judges, (texts, length), and its
        logits, which say nothing elsewhere.

        `words` is (texts, length, WIDTH), `looks` (texts, length, LOOKS), `present` (texts, length).
        """
        texts, length, _ = words.shape
        words = torch.cat((self.start.expand(texts, 1, WIDTH), words), dim=1)
        present = torch.cat((present.new_ones(texts, 1), present), dim=1)
        states = self.norm(words + self.positions[: length + 1])
        states = torch.cat((states[:, :1], states[:, 1:] + self.look(looks)), dim=1)
        glanced = states.new_zeros(texts, length, KINDS)
        asked = present[:, 1:]
        for number, layer in enumerate(self.layers):
            last = number + 1 == len(self.layers) and self.glance is not None
            states = layer(states, present, functional.pad(asked, (1, 0)) if last else None)
            if number == 0 and self.glance is not None:
                glanced = self.glance(_seen(states, looks))
                asked = asked * _doubtful(glanced)
                present = torch.cat((present[:, :1], present[:, 1:] * _around(asked)), dim=1)
        logits: Tensor = self.mark(functional.gelu(self.widen(_seen(states, looks), asked[:, :, None])))
        return glanced, asked > 0, logits


def _seen(states: Tensor, looks: Tensor) -> Tensor:
    """Return what a judgement is made of; shape (texts, length, WIDTH + LOOKS)."""
    return torch.cat((states[:, 1:], looks.to(states.dtype)), dim=-1)


@torch.no_grad()
def _doubtful(glanced: Tensor) -> Tensor:
    """Return 1 for each sub-word that may be something; shape (texts, length)."""
    return (1 - glanced.float().softmax(dim=-1)[..., 0] > DOUBT).to(glanced.dtype)


@torch.no_grad()
def _around(asked: Tensor) -> Tensor:
    """Return 1 for each of those that are asked about, and for those around it; shape (texts, length)."""
    return functional.max_pool1d(asked[:, None], 2 * AROUND + 1, stride=1, padding=AROUND)[:, 0]


@torch.no_grad()
def slimmer(network: Network, shape: Shape, batches: Iterable[Packed]) -> Network:
    """Return a network of slimmer layers that marks nearly as this one does in some text."""

    def read() -> None:
        for batch in batches:
            network.logits(batch)

    made = copy.deepcopy(network)
    layers: Any = network.eval().layers
    made.layers = nn.ModuleList(slim(layers, [shape] * len(layers), read))
    return made


def start_of(table: SubWordTable) -> Tensor:
    """Return the embedding of what stands before each text; shape (1, WIDTH)."""
    return torch.from_numpy(table.embeddings(torch.tensor([START_ID]).numpy()))


def _parameters(*modules: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for module in modules for parameter in module.parameters())
