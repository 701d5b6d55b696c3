"""The courses that the encoder is trained on.

A long one for a GPU, a short one for two cores, and one that goes on from the encoder that ships, for texts that came
since.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from app.detection.normalise import prepare
from app.errors import ModelUnavailable, VigilError
from app.subwords import MODELS_DIR, TOKENIZER_FILE, SubWordTable
from app.training import shipped
from app.training.base import Pretrained
from app.training.corpus import Row
from app.training.encoder import OnDevice, Progress, Stage, Trainer, judge
from app.training.examples import shelve
from app.training.network import DROPOUT, EXITS, Network, Shape, between, pretrained_network, word_table
from app.training.shelf import OWN, Mixture, Shelf
from app.training.slimming import slim
from app.training.vocabulary import Vocabulary, build, of_tokenizer

VOCABULARY_FILES: Final = frozenset(
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
"""Own files whose sub-words are all in the vocabulary, which has stayed the same since."""
Logits = list[NDArray[np.float32]]
SHELF_FILE: Final = "shelf.npz"
TEACHER_SEEDS: Final = 1_000
"""Seeds that belong to one seed of a training."""
MEASURED: Final = 8
"""Batches that slimming measures on."""
MEASURED_BATCH: Final = 8_192
"""Their sub-words."""


@dataclass(frozen=True, slots=True)
class Course:
    network: Network
    """The running average of the weights, which is what is kept."""
    pretrained: Pretrained
    vocabulary: Vocabulary
    held_out: list[Logits]
    """What each exit makes of the windows of own texts that no weight has seen."""


@dataclass(frozen=True, slots=True)
class Plan:
    exits: tuple[int, ...]
    """Layers after which the encoder judges while it learns."""
    stages: tuple[Stage, ...]
    teachers: int = 0
    """Networks that are trained before, each by itself and without rounding, for the encoder to learn from. It begins
    with the first one's weights."""
    teaching: tuple[Stage, ...] = ()
    """What teachers are trained with."""
    again: tuple[Stage, ...] = ()
    """What it goes on with afterwards, taught by itself as it then is and by the teachers but the first. It ends midway
    between before and after."""
    goes_on: bool = False
    """Whether it begins with the encoder that ships, and not with the pretrained layers."""
    ships: tuple[int, ...] = EXITS
    """Layers after which it judges as it ships; those after the last of them are left out."""
    dropout: float = DROPOUT
    keeps_layers: bool = False
    """Whether layers and last judgement stay as they are, and only the exits before it learn."""
    slims: tuple[Shape, ...] = ()
    """What its layers up to each exit are made slimmer to; none leaves them. Then those up to the last of them go on,
    taught by the encoder as it was, whose states they imitate, and the layers after them stay as they are."""


SINCE: Final = Mixture(attacks_per_source=60, benign_per_file=300, composed=1_200, known=0.2)
"""What is shown to an encoder that goes on: all that came since, and a fifth of what it knows."""
ALL: Final = Mixture(attacks_per_source=150, benign_per_file=400, composed=4_000)
COURSES: Final = {
    "long": Plan(
        (*EXITS, 12),
        (Stage("long", ALL, epochs=8, rate=2e-4, batch=24_576, steps=2_440, average=0.995),),
        teachers=3,
        teaching=(Stage("teacher", ALL, epochs=4, rate=3e-4, batch=24_576, steps=1_096, average=0.99),),
        again=(Stage("again", ALL, epochs=3, rate=1.5e-4, batch=24_576, steps=900, average=0.995),),
    ),
    "short": Plan(
        (3, 4, 6),
        (Stage("short", Mixture(attacks_per_source=60, benign_per_file=100, composed=1_400), 2, 1e-4, 2_048),),
        ships=(3, 4, 6),
    ),
    "further": Plan(
        EXITS,
        (Stage("further", SINCE, epochs=2, rate=8e-5, batch=8_192),),
        goes_on=True,
    ),
    "exits": Plan(
        EXITS,
        (Stage("exits", SINCE, epochs=1, rate=2e-4, batch=8_192, steps=250),),
        goes_on=True,
        keeps_layers=True,
    ),
    "slim": Plan(
        EXITS,
        (Stage("slim", ALL, epochs=3, rate=2e-4, batch=8_192, steps=1_600),),
        goes_on=True,
        slims=(Shape(heads=8, inner=1_024), Shape(), Shape()),
    ),
}
"""The long one took twelve minutes on an H100 with the text that 2026.11-e5-10 learned from, and takes days on two
cores, for which the short one is meant. The third shows what the shipped encoder has not seen twice, and a fifth of the
rest each time so that it is not forgotten: 45 minutes for nine layers and 5,000 texts on two cores without AMX; earlier
models can be its teachers (`elders`), so that it finds what they found. The fourth teaches the exits before the last
alone, one that the shipped encoder does not have among them. The last makes the first three layers slimmer, which all
texts pass; at each step the whole encoder judges, too."""


def teach(
    rows: Sequence[Row], seed: int, folder: Path, progress: Progress, plan: Plan, elders: Sequence[Path] = ()
) -> Course:
    """Train (or go on with) an encoder; its state, and what it learns from, are kept in `folder`.

    `elders` are folders of earlier models that teach an encoder that goes on, of the texts that it knows.

    Raises:
        VigilError: there are elders for an encoder that begins anew, or of another vocabulary.
    """
    if elders and not plan.goes_on:
        raise VigilError("earlier models teach an encoder that goes on, and this course begins anew")
    folder.mkdir(parents=True, exist_ok=True)
    pretrained = Pretrained.load()
    vocabulary = _shipped_vocabulary(pretrained) if plan.goes_on else vocabulary_of(rows, pretrained)
    path = folder / SHELF_FILE
    if not path.exists():
        known = shipped.learned_from(MODELS_DIR) if plan.goes_on else frozenset[str]()
        shelve(rows, vocabulary.tokenizer, seed, progress, known).save(path)
    words = word_table(pretrained, vocabulary)
    shelf = Shelf.load(path)
    if plan.goes_on and not shelf.known.any():
        raise VigilError(f"{path} belongs to another course; name another --work")
    if plan.goes_on:
        teachers = [elder(path) for path in elders]
    else:
        teachers = [
            teacher_of(plan, number, pretrained, words, shelf, seed, folder, progress)
            for number in range(plan.teachers)
        ]
    torch.manual_seed(seed)
    network = begin(plan, pretrained, teachers)
    if plan.slims:
        made = slimmer(network, plan.slims, words, shelf, seed)
        front, teachers = front_of(made, network), [network, *teachers]
        front = learn(front, words, shelf, seed, folder, progress, plan.stages, teachers, imitates=True)
        network = joined(front, made)
    else:
        network = learn(network, words, shelf, seed, folder, progress, plan.stages, teachers)
    if plan.again:
        network = again(network, teachers, words, shelf, seed, folder, progress, plan.again)
    network = network.cut(plan.ships)
    texts, _ = _held_out(shelf)
    return Course(network, pretrained, vocabulary, judge(network, words.to(network.positions.device), texts))


def usual() -> str:
    """Return the name of the course for this machine."""
    return "long" if torch.cuda.is_available() else "short"


def teacher_of(
    plan: Plan,
    number: int,
    pretrained: Pretrained,
    words: Tensor,
    shelf: Shelf,
    seed: int,
    folder: Path,
    progress: Progress,
) -> Network:
    """Return one trained teacher; it keeps its state in a folder of its own."""
    own_seed = TEACHER_SEEDS * seed + number
    torch.manual_seed(seed)  # All begin with the same heads.
    network = pretrained_network(pretrained, plan.exits, rounds=False)
    own_folder = folder / f"teacher_{number}"
    own_folder.mkdir(parents=True, exist_ok=True)

    def tell(message: str) -> None:
        progress(f"teacher {number + 1} of {plan.teachers}: {message}")

    return learn(network, words, shelf, own_seed, own_folder, tell, plan.teaching)


def again(
    network: Network,
    teachers: Sequence[Network],
    words: Tensor,
    shelf: Shelf,
    seed: int,
    folder: Path,
    progress: Progress,
    stages: Sequence[Stage],
) -> Network:
    """Return a network that went on with itself among its teachers, midway; its state has a folder of its own."""
    own_folder = folder / "again"
    own_folder.mkdir(parents=True, exist_ok=True)
    ended = learn(
        copy.deepcopy(network), words, shelf, seed + 1, own_folder, progress, stages, (network, *teachers[1:])
    )
    return between(network, ended)


def begin(plan: Plan, pretrained: Pretrained, teachers: Sequence[Network]) -> Network:
    """Return what a course begins with: the encoder that ships, or the pretrained layers, or the weights of the first
    of the teachers that it trained."""
    if plan.goes_on:
        network = shipped.read(MODELS_DIR, plan.exits, plan.dropout)
        if plan.keeps_layers:
            network.layers.requires_grad_(False)
            network.heads[-1].requires_grad_(False)
        return network
    network = pretrained_network(pretrained, plan.exits, rounds=True)
    if teachers:
        network.load_state_dict(teachers[0].state_dict())
    return network


def slimmer(network: Network, shapes: Sequence[Shape], words: Tensor, shelf: Shelf, seed: int) -> Network:
    """Return a network that judges nearly as this one, whose layers up to each exit are of these shapes.

    Raises:
        VigilError: it is as slim already, or slimmer.
    """
    wanted = [shapes[bisect_left(network.exits, number)] for number in range(1, len(network.layers) + 1)]
    layers: Any = network.layers
    held = [layer.shape for layer in layers]
    fits = all(
        ours.heads <= theirs.heads and ours.inner <= theirs.inner for ours, theirs in zip(wanted, held, strict=True)
    )
    if wanted == held or not fits:
        raise VigilError("the encoder that ships is as slim already")
    texts = OnDevice.of(shelf, words.device)

    def read() -> None:
        for batch in islice(shelf.epoch(ALL, f"{seed}:slimming", 0, MEASURED_BATCH), MEASURED):
            ids, present = texts.show(batch)
            network(functional.embedding(ids, words), present)

    made = copy.deepcopy(network)
    network.eval()
    made.layers = nn.ModuleList(copy.deepcopy(slim(layers, wanted, read)))
    return made


def front_of(made: Network, whole: Network) -> Network:
    """Return the layers of a slimmer network up to the exit behind the last one that is slimmer, with their heads."""
    layers: Any = zip(made.layers, whole.layers, strict=True)
    last = max(number for number, (ours, theirs) in enumerate(layers, 1) if ours.shape != theirs.shape)
    return made.cut(made.exits[: bisect_left(made.exits, last) + 1])


def joined(front: Network, whole: Network) -> Network:
    """Return a network with other first layers and heads."""
    made = copy.deepcopy(whole)
    for ours, theirs in ((made.layers, front.layers), (made.heads, front.heads)):
        for place, module in enumerate(theirs):
            ours[place] = copy.deepcopy(module)
    return made


def elder(folder: Path) -> Network:
    """Return the encoder of an earlier model.

    Raises:
        VigilError: it reads other sub-words than the one that ships.
        ModelUnavailable: there is none.
    """
    theirs, ours = (SubWordTable.load(each).tokenizer.get_vocab() for each in (folder, MODELS_DIR))
    if theirs != ours:
        raise VigilError(f"the models in {folder} have another vocabulary than the shipped ones")
    # Its weights are rounded already, and rounding what comes in takes time.
    return shipped.read(folder, shipped.exits_of(folder), DROPOUT, rounds=False)


def _shipped_vocabulary(pretrained: Pretrained) -> Vocabulary:
    try:
        return of_tokenizer(pretrained, SubWordTable.load(MODELS_DIR).tokenizer)
    except KeyError:
        raise ModelUnavailable(f"{TOKENIZER_FILE} is not of the pretrained file's vocabulary") from None


def vocabulary_of(rows: Sequence[Row], pretrained: Pretrained) -> Vocabulary:
    first = [row for row in rows if not row.own or row.file in VOCABULARY_FILES]
    return build(pretrained, (prepare(row.text).canonical for row in first))


def learn(
    network: Network,
    words: Tensor,
    shelf: Shelf,
    seed: int,
    folder: Path,
    progress: Progress,
    stages: Sequence[Stage],
    teachers: Sequence[Network] = (),
    *,
    imitates: bool = False,
) -> Network:
    """Train a network whose random parts are drawn already; needs no text, only what is on the shelf."""
    torch.manual_seed(seed)
    trainer = Trainer(network, words, shelf, seed, folder, progress, teachers, imitates=imitates)
    trainer.run(stages, _report(trainer, words, shelf, progress))
    average: Network = trainer.average
    return average


def _report(trainer: Trainer, words: Tensor, shelf: Shelf, progress: Progress) -> Callable[[str], None]:
    """Return what tells, after an epoch, how the own rows that no weight sees are judged at each exit."""
    texts, attack = _held_out(shelf)
    placed = words.to(trainer.device)

    def report(title: str) -> None:
        told = []
        for layers, logits in zip(trainer.network.exits, judge(trainer.average, placed, texts), strict=True):
            peak = np.array([values.max() for values in logits])
            order = np.argsort(np.argsort(peak))
            area = (order[attack].mean() - (attack.sum() - 1) / 2) / (~attack).sum()
            found = [float(np.mean(peak[attack] > np.quantile(peak[~attack], 1 - rate))) for rate in (0.02, 0.05)]
            told.append(f"after {layers} layers area {area:.4f}, {found[0]:.3f} found at 2 %, {found[1]:.3f} at 5 %")
        progress(f"{title}, held-out: {'; '.join(told)}")

    return report


def _held_out(shelf: Shelf) -> tuple[list[NDArray[np.uint32]], NDArray[np.bool_]]:
    """Return the own texts that no weight sees, and which of them are attacks."""
    held = np.flatnonzero(shelf.held_out & (shelf.reservoirs == OWN))
    texts = [shelf.ids[at : at + length] for at, length in zip(shelf.starts[held], shelf.lengths[held], strict=True)]
    return texts, shelf.attack[held]
