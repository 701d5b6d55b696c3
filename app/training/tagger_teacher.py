"""The teacher of the tagger: the pretrained encoder's twelve layers with a judgement of each sub-word.

It is much too slow to ship (24,000 texts take two cores three minutes), and marks texts for the tagger to learn from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.subwords import SubWordTable
from app.training.base import Pretrained
from app.training.marked import Case, Reader
from app.training.tagger_network import Network
from app.training.tagging import Batches, Course, Material, Progress, batches_of, learn
from app.training.tagging import opinions as opinions

LAYERS: Final = 12
COURSE: Final = Course(epochs=3, rate=1.5e-4, weight_decay=0.01, betas=(0.9, 0.98), withheld=0.1, full_batch=1_000)
"""The rate is that of the topmost pretrained layer."""


def teach(
    material: Material,
    reader: Reader,
    table: SubWordTable,
    held_out: Sequence[Case],
    work: Path,
    progress: Progress,
) -> Network:
    """Train a teacher on what is shown of the material; returns the running average of weights.

    Raises:
        FileNotFoundError: the package with the pretrained encoder is not installed.
        VigilError: the state in `work` is that of a run with other texts or another seed.
    """
    pretrained = Pretrained.load()

    def batches(epoch: int) -> Batches:
        chance = random.Random(f"teacher:{material.seed}:{epoch}")  # noqa: S311 - reproducible, not secret
        return batches_of(material.epoch(chance), reader, chance)

    taught: Network = learn(
        lambda: Network.pretrained(pretrained, table, LAYERS, rounds=False, glances=False),
        COURSE,
        batches,
        table,
        held_out,
        work / "teacher.pt",
        material,
        progress,
    )
    return taught
