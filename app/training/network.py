"""The encoder as PyTorch trains it: the layers of the pretrained model, and the heads that judge after some of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.training.base import EPSILON, HEADS, INNER, POSITIONS, WIDTH, Pretrained, unpack
from app.training.corpus import FAMILIES
from app.training.vocabulary import Vocabulary

DROPOUT: Final = 0.1
DIMENSIONS: Final = 96
"""Of the embedding that families are compared in."""
PROTOTYPES: Final = 3
"""For each family."""
SHARPNESS: Final = 12.0
"""Inverse temperature of the comparison with prototypes."""
STEPS: Final = 63
"""Weights ship as -STEPS..STEPS. The eighth bit is left unused because processors without VNNI add two products of 8
bits in 16 bits, which overflows with it."""
LEVELS: Final = 255
"""Highest integer of what goes into a layer; the lowest is 0."""
SMALLEST_STEP: Final = 1e-12
ROUNDED_IN_TRAINING: Final = 0.35
"""Share of the layers that round what comes in, in a step of training: all of them would take half as long again."""
EXITS: Final = (3, 6, 9)
"""Layers after which a text is judged: most texts need no more than the first."""

Trained = TypeVar("Trained", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Output:
    logits: Tensor
    """Of an attack; shape (texts,)."""
    token_logits: Tensor
    """Of being part of an attack, for each sub-word; shape (texts, length)."""
    family_logits: Tensor
    """How much each family's prototypes attract; shape (texts, families)."""
    states: Tensor
    """What was judged; shape (texts, length, WIDTH)."""


class Linear(nn.Linear):
    """A linear layer that computes with the integers that it ships with, so that training learns to do with them
    (quantisation-aware training: Jacob et al., 2018). Gradients pass as if nothing had been rounded.

    Written only after training, the weights cost 1.5 points of what is found at 2 % false positives. In training the
    weights are always rounded, and what comes in now and then (quantisation noise: Fan et al., 2020).
    """

    rounds: bool = True
    """Not where the layer never ships."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map states, (texts, length, width); `present`, (texts, length, 1), is 0 where a text has ended."""
        if not self.rounds:
            return super().forward(states)
        if not self.training or torch.rand(()) < ROUNDED_IN_TRAINING:
            states = _Rounded.apply(states, _state_steps(states.detach(), present))
        return functional.linear(states, _Rounded.apply(self.weight, weight_steps(self.weight)), self.bias)


def weight_steps(weight: Tensor) -> Tensor:
    """Return what a step of each row's integers is worth; shape (rows, 1)."""
    return weight.detach().abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST_STEP) / STEPS


def _state_steps(states: Tensor, present: Tensor) -> Tensor:
    """Return the steps with which 8 bits span all that each text's sub-words bring, and zero; shape (texts, 1, 1)."""
    seen = states * present.to(states.dtype)
    low, high = seen.amin(dim=(1, 2), keepdim=True).clamp(max=0), seen.amax(dim=(1, 2), keepdim=True).clamp(min=0)
    return ((high - low) / LEVELS).clamp(min=SMALLEST_STEP)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, steps: Tensor) -> Tensor:
        return (values / steps).round_().mul_(steps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a layer; by default that of the pretrained ones."""

    heads: int = field(default_factory=lambda: HEADS)
    """Of attention."""
    inner: int = field(default_factory=lambda: INNER)
    """Units between `widen` and `narrow`."""


class Layer(nn.Module):
    """A post-norm transformer layer, as in BERT."""

    def __init__(self, dropout: float = DROPOUT, shape: Shape | None = None) -> None:
        super().__init__()
        self.dropout = dropout
        self.shape = shape = shape or Shape()
        self.heads = shape.heads
        attended = self.heads * WIDTH // HEADS
        self.attend = Linear(WIDTH, 3 * attended)
        self.merge = Linear(attended, WIDTH)
        self.first_norm = nn.LayerNorm(WIDTH, EPSILON)
        self.widen = Linear(WIDTH, shape.inner)
        self.narrow = Linear(shape.inner, WIDTH)
        self.second_norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, states: Tensor, present: Tensor, asked: Tensor | None = None) -> Tensor:
        """Map states, (texts, length, WIDTH); `present`, (texts, length), is 0 where a text has ended.

        Where `asked`, (texts, length), is 0, what comes out says nothing: for these nothing is computed where it ships.
        """
        texts, length, _ = states.shape
        mask = (present > 0)[:, None, None, :]
        present = present[:, :, None]
        attended = self.attend(states, present)
        if asked is not None:
            present = asked[:, :, None]
            width = self.merge.in_features
            attended = torch.cat((self.attend(states, present)[..., :width], attended[..., width:]), dim=-1)
        queries, keys, values = attended.view(texts, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = _attended(queries, keys, values, mask)
        merged = self.merge(mixed.transpose(1, 2).reshape(texts, length, -1), present)
        states = self.first_norm(states + functional.dropout(merged, self.dropout, self.training))
        inner = self.narrow(functional.gelu(self.widen(states, present)), present)
        result: Tensor = self.second_norm(states + functional.dropout(inner, self.dropout, self.training))
        return result


def _attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return the values that each query attends to; shape (texts, heads, length, width of a head)."""
    if queries.is_cuda:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    # On the processor torch's fused attention takes three times as long for batches of many short texts.
    likeness = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    weights = likeness.masked_fill(~mask, -1e4).softmax(dim=-1, dtype=likeness.dtype)
    mixed: Tensor = weights @ values
    return mixed


class Head(nn.Module):
    """Judges a text by its sub-words' states: their mean, and those that it learns to look at."""

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = dropout
        self.look = nn.Linear(WIDTH, 1)
        self.part = nn.Linear(WIDTH, 1)
        self.judge = nn.Linear(2 * WIDTH, WIDTH)
        self.attack = nn.Linear(WIDTH, 1)
        self.project = nn.Linear(WIDTH, DIMENSIONS)
        self.prototypes = nn.Parameter(torch.randn(len(FAMILIES) * PROTOTYPES, DIMENSIONS))

    def forward(self, states: Tensor, present: Tensor) -> Output:
        weights = self.look(states).squeeze(-1).float().masked_fill(present == 0, -1e4).softmax(dim=1)
        looked = (weights[:, :, None] * states).sum(dim=1)
        mean = (states * present[:, :, None]).sum(dim=1) / present.sum(dim=1, keepdim=True)
        pooled = functional.gelu(self.judge(torch.cat((looked, mean), dim=1)))
        pooled = functional.dropout(pooled, self.dropout, self.training)
        embeddings = functional.normalize(self.project(pooled).float(), dim=1)
        likeness = embeddings @ functional.normalize(self.prototypes, dim=1).T
        families = torch.logsumexp(SHARPNESS * likeness.float().view(-1, len(FAMILIES), PROTOTYPES), dim=2)
        parts = self.part(states).squeeze(-1).float()
        return Output(self.attack(pooled).squeeze(1).float(), parts, families, states)


class Network(nn.Module):
    """From sub-word embeddings to a judgement. The embeddings themselves stay as they were pretrained, in 4 bits."""

    positions: Tensor

    def __init__(
        self,
        exits: Sequence[int] = EXITS,
        dropout: float = DROPOUT,
        *,
        rounds: bool = True,
        shapes: Sequence[Shape] = (),
    ) -> None:
        """Make one that judges after the layers `exits`; `shapes` are those of its layers, by default the pretrained
        ones'."""
        super().__init__()
        self.exits = tuple(exits)
        self.register_buffer("positions", torch.zeros(POSITIONS, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer(dropout, shape) for shape in shapes or [Shape()] * self.exits[-1])
        self.heads = nn.ModuleList(Head(dropout) for _ in self.exits)
        for module in self.modules():
            if isinstance(module, Linear):
                module.rounds = rounds

    def forward(self, words: Tensor, present: Tensor) -> list[Output]:
        """Judge texts at every exit.

        `words` is (texts, length, WIDTH); `present`, (texts, length), is 1 where a sub-word stands.
        """
        states = self.norm(words + self.positions[: words.shape[1]])
        outputs: list[Output] = []
        for number, layer in enumerate(self.layers, 1):
            states = layer(states, present)
            if number == self.exits[len(outputs)]:
                outputs.append(self.heads[len(outputs)](states, present))
        return outputs

    def cut(self, exits: Sequence[int]) -> Network:
        """Return the layers up to the last of `exits`, with the heads of these exits alone; the weights are shared."""
        network = Network(exits)
        network.positions = self.positions
        network.norm = self.norm
        network.layers = self.layers[: network.exits[-1]]
        network.heads = nn.ModuleList(self.heads[self.exits.index(each)] for each in network.exits)
        return network


def pretrained_network(pretrained: Pretrained, exits: Sequence[int] = EXITS, *, rounds: bool = True) -> Network:
    """Return a network with the first pretrained layers and fresh heads (from torch's random state); `rounds` where it
    ships."""
    network = Network(exits, rounds=rounds)

    def put(parameter: Tensor, *names: str) -> None:
        shape = (parameter.shape[0] // len(names), *parameter.shape[1:])
        parts = [torch.from_numpy(pretrained.tensor(name, *shape)) for name in names]
        with torch.no_grad():
            parameter.copy_(torch.cat(parts))

    put(network.positions, "emb.pos")
    network.positions += torch.from_numpy(pretrained.tensor("emb.type", 2, WIDTH)[0])
    put(network.norm.weight, "emb.ln.w")
    put(network.norm.bias, "emb.ln.b")
    for number, layer in enumerate(network.layers):
        start = f"l{number}."
        for suffix in ("w", "b"):
            attribute = "weight" if suffix == "w" else "bias"
            put(getattr(layer.attend, attribute), *(f"{start}{part}.{suffix}" for part in "qkv"))
            put(getattr(layer.merge, attribute), f"{start}ao.{suffix}")
            put(getattr(layer.first_norm, attribute), f"{start}aln.{suffix}")
            put(getattr(layer.widen, attribute), f"{start}fi.{suffix}")
            put(getattr(layer.narrow, attribute), f"{start}fo.{suffix}")
            put(getattr(layer.second_norm, attribute), f"{start}oln.{suffix}")
    return network


def between(begun: Trained, ended: Trained) -> Trained:
    """Return the network midway between two, of which the second went on from the first: it has learned nearly as much
    and forgotten less (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022)."""
    middle = copy.deepcopy(ended)
    weights = ended.state_dict()
    middle.load_state_dict({name: (values + weights[name]) / 2 for name, values in begun.state_dict().items()})
    return middle


def word_table(pretrained: Pretrained, vocabulary: Vocabulary) -> Tensor:
    """Return the embedding of every sub-word kept; shape (rows, WIDTH)."""
    blocks = pretrained.word_blocks(vocabulary.ids)
    scales, weights = unpack(blocks.reshape(-1, blocks.shape[-1]))
    table = (weights * scales[:, None]).astype(np.float32)
    return torch.from_numpy(table.reshape(len(vocabulary.ids), WIDTH))
