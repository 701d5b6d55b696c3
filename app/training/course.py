"""The course that the encoder is trained on: first broad, then on all of the own text, twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from app.detection.normalise import prepare
from app.training.base import Pretrained
from app.training.corpus import Row
from app.training.encoder import Progress, Stage, Trainer, judge
from app.training.examples import Mixture, Pool
from app.training.network import Network, pretrained_network, word_table
from app.training.vocabulary import Vocabulary, build

FIRST_FILES: Final = frozenset(
    (
        "context_and_question",
        "contrast_pairs",
        "contrast_pairs_2",
        "contrast_pairs_3",
        "direct_attacks",
        "dressed_up_benign",
        "everyday_benign",
        "everyday_long",
        "game_attacks",
        "hard_benign_requests",
        "hard_benign_words",
        "jailbreak_mid",
        "long_documents",
        "long_documents_2",
        "long_prompts",
        "long_prompts_2",
        "multilingual",
        "multilingual_2",
        "quiet_attacks",
        "quiet_attacks_2",
        "tool_outputs",
        "tool_outputs_2",
        "personal_english",
        "personal_polish",
    )
)
"""Own files of the first stage; the second stage has all."""
BROAD: Final = Stage(
    "broad",
    Mixture(attacks_per_source=200, benign_per_file=250, composed=1_000),
    epochs=1,
    steps=400,
    falls=False,
)
OWN: Final = Stage("own", Mixture(attacks_per_source=60, benign_per_file=100, composed=1_400), epochs=2, steps=1_400)
AGAIN: Final = Stage(
    "again", Mixture(attacks_per_source=100, benign_per_file=250, composed=2_000), epochs=1, steps=793, falls=False
)
LAST: Final = Stage("last", Mixture(attacks_per_source=60, benign_per_file=120, composed=1_400), epochs=2, steps=1_400)
STAGES: Final = (BROAD, OWN, AGAIN, LAST)
"""The rate falls twice, with a warm restart between (Loshchilov and Hutter, "SGDR", 2017)."""


@dataclass(frozen=True, slots=True)
class Course:
    network: Network
    """The running average of the weights, which is what is kept."""
    pretrained: Pretrained
    vocabulary: Vocabulary


def teach(rows: Sequence[Row], seed: int, folder: Path, progress: Progress, stages: Sequence[Stage] = STAGES) -> Course:
    """Train (or go on with) an encoder; the state is kept in `folder`."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    first = [row for row in rows if not row.own or row.file in FIRST_FILES]
    pretrained = Pretrained.load()
    vocabulary = build(pretrained, (prepare(row.text).canonical for row in first))
    words = word_table(pretrained, vocabulary)
    trainer = Trainer(pretrained_network(pretrained), words, seed, folder, progress)
    everything = Pool(rows, vocabulary.tokenizer)
    pools = [Pool(first, vocabulary.tokenizer) if stage is BROAD else everything for stage in stages]
    trainer.run(list(zip(stages, pools, strict=True)), _report(trainer, words, everything, progress))
    return Course(trainer.average, pretrained, vocabulary)


def _report(trainer: Trainer, words: Tensor, pool: Pool, progress: Progress) -> Callable[[str], None]:
    """Return what tells, after an epoch, how the own rows that no weight sees are judged."""
    held = [(row, ids) for row, ids in pool.held_out() if row.own]

    def report(title: str) -> None:
        logits, _ = judge(trainer.average, words, [ids for _, ids in held])
        attack = np.array([row.attack for row, _ in held])
        peak = np.array([values.max() for values in logits])
        order = np.argsort(np.argsort(peak))
        area = (order[attack].mean() - (attack.sum() - 1) / 2) / (~attack).sum()
        at = np.quantile(peak[~attack], 0.95)
        progress(f"{title}: held-out area {area:.4f}, recall {np.mean(peak[attack] > at):.3f} at 5 % false positives")

    return report
