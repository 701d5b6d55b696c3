"""The teacher of the tagger: the pretrained encoder's twelve layers with a judgement of each sub-word.

It is much too slow to ship (24,000 texts take two cores three minutes), and marks texts for the tagger to learn from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from app.pii.tagger import LOOKS
from app.subwords import WIDTH, SubWordTable
from app.training.base import Pretrained
from app.training.encoder import START_ID
from app.training.marked import Case, Reader
from app.training.network import Linear, pretrained_network
from app.training.tagging import (
    KINDS,
    Batches,
    Course,
    Marking,
    Material,
    Packed,
    Progress,
    by_length,
    in_16_bits,
    learn,
)
from app.training.tagging import opinions as opinions

LAYERS: Final = 12
COURSE: Final = Course(epochs=3, rate=1.5e-4, weight_decay=0.01, betas=(0.9, 0.98), withheld=0.1, full_batch=1_000)
"""The rate is that of the topmost pretrained layer."""
BATCH: Final = 3_072
"""Sub-words of a batch, padding counted."""
POOL: Final = 2_048
"""Texts that are cut into batches together."""
HEAD_RATE: Final = 5.0
"""How many times faster the judgement learns than the pretrained layers."""
LAYER_DECAY: Final = 0.93
"""Each layer learns so much slower than the one above it."""


class Teacher(Marking):
    """Pretrained layers that are also told how each word looks: they were trained on small letters."""

    start: Tensor

    def __init__(self, pretrained: Pretrained, start: Tensor, layers: int = LAYERS) -> None:
        super().__init__()
        network = pretrained_network(pretrained, exits=(layers,))
        self.register_buffer("start", start)
        self.register_buffer("positions", network.positions)
        self.norm, self.layers = network.norm, network.layers
        for module in self.modules():
            if isinstance(module, Linear):
                module.rounds = False
        self.look = nn.Linear(LOOKS, WIDTH)
        nn.init.zeros_(self.look.weight)
        nn.init.zeros_(self.look.bias)
        self.widen = nn.Linear(WIDTH + LOOKS, WIDTH)
        self.mark = nn.Linear(WIDTH, KINDS)

    def groups(self) -> list[dict[str, Any]]:
        layers: list[dict[str, Any]] = [
            {"params": list(layer.parameters()), "scale": LAYER_DECAY ** (len(self.layers) - 1 - number)}
            for number, layer in enumerate(self.layers)
        ]
        head = [*self.look.parameters(), *self.widen.parameters(), *self.mark.parameters()]
        return [*layers, {"params": head, "scale": HEAD_RATE}]

    def logits(self, packed: Packed) -> Tensor:
        with in_16_bits():
            return self(packed.words, packed.looks, packed.present).float()

    def forward(self, words: Tensor, looks: Tensor, present: Tensor) -> Tensor:
        texts, length, _ = words.shape
        words = torch.cat((self.start.expand(texts, 1, WIDTH), words), dim=1)
        present = torch.cat((present.new_ones(texts, 1), present), dim=1)
        states = self.norm(words + self.positions[: length + 1])
        states = torch.cat((states[:, :1], states[:, 1:] + self.look(looks)), dim=1)
        for layer in self.layers:
            states = layer(states, present)
        seen = torch.cat((states[:, 1:], looks.to(states.dtype)), dim=-1)
        result: Tensor = self.mark(nn.functional.gelu(self.widen(seen)))
        return result


def teach(
    material: Material,
    reader: Reader,
    table: SubWordTable,
    held_out: Sequence[Case],
    work: Path,
    progress: Progress,
) -> Teacher:
    """Train a teacher on what is shown of the material; returns the running average of weights.

    Raises:
        FileNotFoundError: the package with the pretrained encoder is not installed.
        VigilError: the state in `work` is that of a run with other texts or another seed.
    """
    pretrained = Pretrained.load()
    start = torch.from_numpy(table.embeddings(torch.tensor([START_ID]).numpy()))

    def batches(epoch: int) -> Batches:
        chance = random.Random(f"teacher:{material.seed}:{epoch}")  # noqa: S311 - reproducible, not secret
        order = material.epoch(chance)
        for begin in range(0, len(order), POOL):
            cases = [reader.read(reader.changed(row, chance)) for row in order[begin : begin + POOL]]
            cut = by_length([case for case in cases if len(case.ids)], BATCH)
            chance.shuffle(cut)
            for number, batch in enumerate(cut, 1):
                yield (begin + len(cases) * number / len(cut)) / len(order), batch

    taught: Teacher = learn(
        lambda: Teacher(pretrained, start),
        COURSE,
        batches,
        table,
        held_out,
        work / "teacher.pt",
        material,
        progress,
    )
    return taught
