"""How networks that mark sub-words are trained: the tagger of names and its teacher.

The same seed, texts, thread count and kind of machine give the same weights: every epoch is drawn from the seed and its
number, dropout from torch's generator, whose state is part of the saved run.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.errors import VigilError
from app.pii.tagger import ENTITIES, LOOKS
from app.subwords import WIDTH, SubWordTable
from app.training.encoder import has_16_bits
from app.training.marked import NOTHING_LEARNED, Case, Marked, Reader

KINDS: Final = 1 + len(ENTITIES)
"""What a sub-word may be: nothing, or one of the entities."""
SMOOTHING: Final = 0.02
AVERAGE: Final = 0.998
"""Decay of the running average of the weights, which is what is kept."""
WARM_UP: Final = 0.03
"""Share of the training in which the rate rises."""
FINAL_RATE: Final = 0.01
"""Share of the peak rate that is left at the end."""
AT_ONCE: Final = 8_192
"""Sub-words that are judged at a time."""
BATCH: Final = 3_072
"""Sub-words of a batch that is learned from, padding counted."""
POOL: Final = 2_048
"""Texts that are cut into batches together: those of like length become neighbours, or three quarters of a batch would
be padding."""
CPU: Final = torch.device("cpu")

Progress = Callable[[str], None]
Batches = Iterator[tuple[float, Sequence[Case]]]
"""The batches of an epoch, each with the share of the epoch that is done with it."""
Item = TypeVar("Item")


class Shown(NamedTuple):
    """Texts that name nobody, of which some are shown in each epoch."""

    texts: Sequence[Marked]
    each_epoch: int


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned from."""

    marked: Sequence[Marked]
    calm: Sequence[Shown]
    seed: int

    def epoch(self, chance: random.Random) -> list[Marked]:
        """Return all marked texts and some that name nobody, in any order."""
        order = list(self.marked)
        for texts, most in self.calm:
            order += chance.sample(texts, min(most, len(texts)))
        chance.shuffle(order)
        return order

    @property
    def digest(self) -> str:
        """Tells this material from any other."""
        seen = hashlib.sha256(str(self.seed).encode())
        for row in (*self.marked, *(row for texts, _ in self.calm for row in texts)):
            seen.update(repr((row.text, row.spans, row.weight)).encode())
        return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class Course:
    epochs: int
    rate: float
    """Peak learning rate."""
    weight_decay: float
    betas: tuple[float, float]
    withheld: float
    """Share of words whose embedding is withheld, so that the look and the neighbours must do."""
    full_batch: int
    """Sub-words of a batch from which its loss is a mean: those of shorter texts would count more each."""


class Packed(NamedTuple):
    """Texts side by side, padded to the longest."""

    words: Tensor
    """Shape (texts, length, WIDTH)."""
    looks: Tensor
    """Shape (texts, length, LOOKS)."""
    present: Tensor
    """1 where a sub-word stands; shape (texts, length)."""
    wanted: Tensor
    """Probability of each kind; shape (texts, length, KINDS)."""
    weights: Tensor
    """How much each sub-word counts; shape (texts, length)."""


class Marking(nn.Module):
    """A network that gives logits of each kind for each sub-word; shape (texts, length, KINDS)."""

    def groups(self) -> list[dict[str, Any]]:
        """Return the parameters to train, each group with the `scale` of its learning rate."""
        return [{"params": list(self.parameters()), "scale": 1.0}]

    def logits(self, packed: Packed) -> Tensor:
        raise NotImplementedError

    def loss(self, packed: Packed, full_batch: int) -> Tensor:
        """Return the mean cross-entropy of what was wanted, each sub-word by its weight; `full_batch` of them at
        least."""
        return mean_error(self.logits(packed), packed.wanted, packed.weights, full_batch)


def mean_error(logits: Tensor, wanted: Tensor, weights: Tensor, full_batch: int) -> Tensor:
    losses = -(wanted * functional.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return (losses * weights).sum() / weights.sum().clamp(min=full_batch)


def pack(cases: Sequence[Case], table: SubWordTable, withheld: float = 0.0, chance: Any = None) -> Packed:
    """Put texts side by side; of `withheld` of the words the embedding is left out, as numpy's `chance` draws them."""
    texts, length = len(cases), max(len(case.ids) for case in cases)
    words = np.zeros((texts, length, WIDTH), np.float32)
    looks = np.zeros((texts, length, LOOKS), np.float32)
    present, weights = np.zeros((texts, length), np.float32), np.zeros((texts, length), np.float32)
    wanted = np.zeros((texts, length, KINDS), np.float32)
    for place, case in enumerate(cases):
        count = len(case.ids)
        words[place, :count] = table.embeddings(case.ids)
        if withheld:
            hidden = chance.random(int(case.words.max(initial=-1)) + 2) < withheld  # The last is for what is no word.
            words[place, :count][hidden[case.words]] = 0
        looks[place, :count] = case.looks
        present[place, :count] = 1
        if case.told is not None:
            wanted[place, :count], weights[place, :count] = case.told, case.weight
        else:
            known = case.targets != NOTHING_LEARNED
            wanted[place, :count] = SMOOTHING / KINDS
            wanted[place, np.flatnonzero(known), case.targets[known]] += 1 - SMOOTHING
            weights[place, :count] = case.weight * known
    return Packed(*map(torch.from_numpy, (words, looks, present, wanted, weights)))


def by_length(cases: Sequence[Case], most: int) -> list[list[Case]]:
    """Cut texts into batches of like length, of so many sub-words with padding."""
    batches: list[list[Case]] = []
    for case in sorted(cases, key=lambda case: len(case.ids)):
        if not batches or (len(case.ids) + 1) * (len(batches[-1]) + 1) > most:
            batches.append([])
        batches[-1].append(case)
    return batches


def batches_of(order: Sequence[Marked | Case], reader: Reader, chance: random.Random) -> Batches:
    """Read texts, each changed a little, and those that are read already as they are, in batches of like length."""
    for begin in range(0, len(order), POOL):
        pool = order[begin : begin + POOL]
        cases = [each if isinstance(each, Case) else reader.read(reader.changed(each, chance)) for each in pool]
        batches = by_length([case for case in cases if len(case.ids)], BATCH)
        chance.shuffle(batches)
        for number, batch in enumerate(batches, 1):
            yield (begin + len(pool) * number / len(batches)) / len(order), batch


def learn(
    make: Callable[[], Marking],
    course: Course,
    batches: Callable[[int], Batches],
    table: SubWordTable,
    held_out: Sequence[Case],
    state: Path,
    material: Material,
    progress: Progress,
) -> Any:
    """Train a network and return the running average of its weights; goes on where a saved run ended.

    Args:
        make: gives a network, its weights from torch's random state.
        batches: those of an epoch, by its number.
        held_out: what is measured on after each epoch.
        state: file that keeps the run after each epoch.

    Raises:
        VigilError: the saved run is one with another seed or other texts.
    """
    name = state.stem
    torch.manual_seed(material.seed)
    network = make()
    average = copy.deepcopy(network).eval()
    groups = network.groups()
    optimiser = torch.optim.AdamW(groups, course.rate, weight_decay=course.weight_decay, betas=course.betas, fused=True)
    plan = f"{course} {material.digest}"
    done = steps = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        if saved["plan"] != plan:
            raise VigilError(f"{state} belongs to a run with another seed or other data; name another --work")
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["random"])
        done, steps = saved["done"], saved["steps"]
    for epoch in range(done, course.epochs):
        withheld = np.random.default_rng([material.seed, epoch])
        losses = []
        packed = ((share, pack(cases, table, course.withheld, withheld)) for share, cases in batches(epoch))
        for share_of_epoch, batch in _ahead(packed):
            share = min(1.0, (epoch + share_of_epoch) / course.epochs)
            rate = course.rate * min(share / WARM_UP, 1 - share + FINAL_RATE, 1.0)
            losses.append(_step(network, batch, optimiser, rate, course.full_batch))
            steps += 1
            keep = min(AVERAGE, (1 + steps) / (10 + steps))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
        state.parent.mkdir(parents=True, exist_ok=True)
        partial = state.with_suffix(".partial")
        kept = {"network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(kept | {"plan": plan, "done": epoch + 1, "steps": steps, "random": torch.get_rng_state()}, partial)
        partial.replace(state)
        measured = quality(average, held_out, table)
        progress(f"{name}, epoch {epoch + 1} of {course.epochs}: loss {np.mean(losses):.4f}; {measured}")
    return average


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Make each item while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _step(network: Marking, batch: Packed, optimiser: Any, rate: float, full_batch: int) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
    network.train()
    loss = network.loss(batch, full_batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_((each for group in optimiser.param_groups for each in group["params"]), 1.0)
    optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def opinions(network: Marking, cases: Sequence[Case], table: SubWordTable) -> list[Any]:
    """Return the probability of each kind for each sub-word of each text; shapes (sub-words, KINDS), 16-bit floats."""
    network.eval()
    found: dict[int, Any] = {}
    for batch in by_length([case for case in cases if len(case.ids)], AT_ONCE):
        probable = network.logits(pack(batch, table)).softmax(dim=-1).numpy().astype(np.float16)
        for place, case in enumerate(batch):
            found[id(case)] = probable[place, : len(case.ids)]
    nothing = np.zeros((0, KINDS), np.float16)
    return [found.get(id(case), nothing) for case in cases]


def quality(network: Marking, cases: Sequence[Case], table: SubWordTable) -> str:
    """Say what share of the sub-words in values is found, and what share of those that are found is right."""
    right = marked = flagged = 0
    for case, probable in zip(cases, opinions(network, cases, table), strict=True):
        known = case.targets != NOTHING_LEARNED
        wanted, said = case.targets[known], probable.argmax(axis=1)[known]
        right += int(np.count_nonzero((wanted == said) & (wanted > 0)))
        marked += int(np.count_nonzero(wanted))
        flagged += int(np.count_nonzero(said))
    return f"held-out sub-words: precision {right / max(flagged, 1):.3f}, recall {right / max(marked, 1):.3f}"


def in_16_bits() -> Any:
    """Return the context in which products are of 16 bits where that is quicker."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_16_bits(CPU))
