"""Fine-tunes the encoder on the processor or a GPU; can be stopped at any moment and goes on where it was.

The same seed, data, thread count and kind of machine give the same weights: every epoch is drawn from the seed and its
number, dropout from torch's generator, whose state is part of the saved run.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from app.errors import VigilError
from app.training.examples import PAD_ID, Example, Mixture, Pool, windows
from app.training.network import Network, Output

FROZEN_LAYERS: Final = 2
"""The first layers keep their pretrained weights: a quarter less work a step."""
BATCH_TOKENS: Final = 2_048
PEAK_RATE: Final = 8e-5
HEAD_RATE: Final = 4e-4
WEIGHT_DECAY: Final = 0.01
WARM_UP: Final = 60
FINAL_RATE: Final = 0.02
"""Share of the peak rate that is left at the end."""
AVERAGE: Final = 0.995
"""Decay of the running average of the weights, which is what is kept."""
FAMILY_LOSS: Final = 0.25
PAIR_LOSS: Final = 0.5
PART_LOSS: Final = 0.4
STRONGEST: Final = 3
"""Sub-words of an attack that must stand out when it is not known where in it the attack lies."""
SAVE_EVERY: Final = 120.0
"""Seconds between saved states."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    mixture: Mixture
    epochs: int
    steps: int | None = None
    """Batches after which the stage ends, even within an epoch."""
    falls: bool = True
    """Whether the learning rate falls to almost nothing within the stage; the next one then warms up again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of the plan: which stage and epoch it belongs to."""

    stage: int
    batch: list[Example]


class Trainer:
    """Holds network, optimiser and running average; `run` goes through the plan from wherever the saved state ends.

    On a GPU a resumed run is not the same to the bit: only the processor's random state is kept.
    """

    def __init__(self, network: Network, words: Tensor, seed: int, folder: Path, progress: Progress) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device)
        self.average = copy.deepcopy(network).eval().to(self.device)
        self._words = words.to(self.device)
        self._seed = seed
        self._state = folder / "encoder_state.pt"
        self._progress = progress
        self._plan = ""
        for layer in network.layers[:FROZEN_LAYERS]:
            layer.requires_grad_(False)
        network.norm.requires_grad_(False)
        body = [p for layer in network.layers[FROZEN_LAYERS:] for p in layer.parameters()]
        known = {id(parameter) for parameter in network.parameters() if not parameter.requires_grad} | set(
            map(id, body)
        )
        heads = [parameter for parameter in network.parameters() if id(parameter) not in known]
        self._optimiser = torch.optim.AdamW(
            [{"params": body, "peak": PEAK_RATE}, {"params": heads, "peak": HEAD_RATE}],
            lr=PEAK_RATE,
            weight_decay=WEIGHT_DECAY,
            betas=(0.9, 0.98),
            fused=True,
        )

    def run(self, stages: Sequence[tuple[Stage, Pool]], after_epoch: Callable[[str], None]) -> None:
        """Train through all stages. `after_epoch` is called with a title whenever one is done."""
        counts = [self._planned(pool, stage) for stage, pool in stages]
        total = sum(map(sum, counts))
        self._plan = f"seed {self._seed}, {counts}"
        done = self._restore()
        self._progress(f"{total} steps, {done} of them done")
        at, warm, saved, started, tokens = 0, 0, time.monotonic(), time.monotonic(), 0
        for (stage, pool), planned in zip(stages, counts, strict=True):
            begin, end = at, at + sum(planned)
            for number, steps in enumerate(planned):
                if at + steps <= done:
                    at += steps
                    continue
                losses: list[float] = []
                for batch in islice(self._batches(pool, stage, number), steps):
                    at += 1
                    if at <= done:
                        continue
                    self._set_rate((at - warm) / WARM_UP, (end - at) / (end - begin) if stage.falls else 1.0)
                    losses.append(self._step(batch, at))
                    tokens += sum(len(example.ids) for example in batch)
                    if at % 50 == 0:
                        rate = tokens / (time.monotonic() - started)
                        self._progress(f"step {at}/{total}, loss {np.mean(losses[-50:]):.3f}, {rate:.0f} sub-words/s")
                    if time.monotonic() - saved > SAVE_EVERY:
                        self._save(at)
                        saved = time.monotonic()
                self._save(at)
                after_epoch(f"{stage.name}, epoch {number + 1} of {stage.epochs}")
            warm = end if stage.falls else warm

    def _planned(self, pool: Pool, stage: Stage) -> list[int]:
        """Return the number of steps of each epoch."""
        left = stage.steps if stage.steps is not None else sys.maxsize
        planned = []
        for number in range(stage.epochs):
            planned.append(min(left, sum(1 for _ in self._batches(pool, stage, number))))
            left -= planned[-1]
        return planned

    def _batches(self, pool: Pool, stage: Stage, number: int) -> Iterator[list[Example]]:
        name = f"{self._seed}:{stage.name}"
        chance = random.Random(f"{name}:{number}")  # noqa: S311 - reproducible, not secret
        units = pool.epoch(stage.mixture, name, number)
        units.sort(key=lambda unit: max(len(example.ids) for example in unit) * chance.uniform(0.85, 1.15))
        batches: list[list[Example]] = []
        batch: list[Example] = []
        longest = 0
        for unit in units:
            length = max(longest, *(len(example.ids) for example in unit))
            if batch and length * (len(batch) + len(unit)) > BATCH_TOKENS:
                batches.append(batch)
                batch, length = [], max(len(example.ids) for example in unit)
            batch = batch + unit
            longest = length
        batches.append(batch)
        chance.shuffle(batches)
        yield from batches

    def _set_rate(self, warmed: float, left: float) -> None:
        """`warmed` is the share of the warm-up that is done, and more after it; `left` that of a stage that falls."""
        share = min(1.0, warmed) * (FINAL_RATE + (1 - FINAL_RATE) * left)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * share

    def _step(self, batch: Sequence[Example], at: int) -> float:
        self.network.train()
        ids, present = _padded([example.ids for example in batch], self.device)
        output = self.network(functional.embedding(ids, self._words), present)
        loss = loss_of(self.network, output, present, batch)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_((p for p in self.network.parameters() if p.requires_grad), 1.0)
        self._optimiser.step()
        keep = min(AVERAGE, (1 + at) / (10 + at))
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(current, 1 - keep)
        return float(loss.detach())

    def _save(self, at: int) -> None:
        state: dict[str, Any] = {
            "at": at,
            "plan": self._plan,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": torch.get_rng_state(),
        }
        partial = self._state.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._state)

    def _restore(self) -> int:
        if not self._state.exists():
            return 0
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        if state["plan"] != self._plan:
            raise VigilError(f"{self._state} belongs to a run with another seed or other data; name another --work")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"].cpu())
        return int(state["at"])


def loss_of(network: Network, output: Output, present: Tensor, batch: Sequence[Example]) -> Tensor:
    """Return what is minimised: judgement, family, order within pairs, and where in a text the attack stands."""
    device = output.logits.device
    attack = torch.tensor([float(example.attack) for example in batch], device=device)
    smoothing = torch.tensor([example.smoothing for example in batch], device=device)
    weight = torch.tensor([example.weight for example in batch], device=device)
    target = attack * (1 - smoothing) + smoothing / 2
    judged = functional.binary_cross_entropy_with_logits(output.logits, target, reduction="none")
    family = torch.tensor([example.family for example in batch], device=device)
    sorted_out = functional.cross_entropy(network.family_logits(output.embeddings), family, reduction="none")
    loss = (weight * (judged + FAMILY_LOSS * sorted_out)).sum() / weight.sum()
    return loss + PART_LOSS * _part_loss(output, present, batch, weight) + PAIR_LOSS * _pair_loss(output, batch)


def _part_loss(output: Output, present: Tensor, batch: Sequence[Example], weight: Tensor) -> Tensor:
    logits = output.token_logits
    losses = []
    for place, example in enumerate(batch):
        length = len(example.ids)
        row = logits[place, 1:length] if length > 1 else logits[place, :1]
        if example.planted is not None:
            inside = torch.zeros_like(row)
            inside[example.planted[0] - 1 : example.planted[1] - 1] = 1.0
            losses.append(functional.binary_cross_entropy_with_logits(row, inside))
        elif example.attack:
            strongest = row.topk(min(STRONGEST, len(row))).values.mean()
            losses.append(functional.softplus(-strongest))
        else:
            losses.append(functional.softplus(row).mean() + 0.3 * functional.softplus(row.max()))
    return (torch.stack(losses) * weight).sum() / weight.sum()


def _pair_loss(output: Output, batch: Sequence[Example]) -> Tensor:
    places: dict[tuple[str, int], dict[bool, int]] = {}
    for place, example in enumerate(batch):
        if example.pair is not None:
            places.setdefault(example.pair, {})[example.attack] = place
    whole = [pair for pair in places.values() if len(pair) == 2]
    if not whole:
        return output.logits.new_zeros(())
    gap = output.logits[[pair[True] for pair in whole]] - output.logits[[pair[False] for pair in whole]]
    return functional.softplus(2 - gap).mean() * len(whole) * 2 / len(batch)


@torch.no_grad()
def judge(
    network: Network, words: Tensor, texts: Iterable[Sequence[int]], batch_tokens: int = 8_192
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return, for each text, the attack logits (windows,) and family logits (windows, families) of its windows."""
    network.eval()
    cut = [list(windows(ids)) for ids in texts]
    flat = sorted(
        ((len(window), text, place, window) for text, parts in enumerate(cut) for place, window in enumerate(parts)),
        key=lambda entry: entry[:3],
    )
    logits = [np.zeros(len(parts), np.float32) for parts in cut]
    families = [np.zeros((len(parts), 0), np.float32) for parts in cut]
    begin = 0
    while begin < len(flat):
        end = begin + 1
        while end < len(flat) and flat[end][0] * (end - begin + 1) <= batch_tokens:
            end += 1
        chunk = flat[begin:end]
        ids, present = _padded([entry[3] for entry in chunk], words.device)
        output = network(functional.embedding(ids, words), present)
        likeness = network.family_logits(output.embeddings).cpu().numpy()
        for place, (_, text, window, _) in enumerate(chunk):
            logits[text][window] = float(output.logits[place])
            if families[text].shape[1] == 0:
                families[text] = np.zeros((len(cut[text]), likeness.shape[1]), np.float32)
            families[text][window] = likeness[place]
        begin = end
    return logits, families


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, texts))
    ids = torch.full((len(texts), longest), PAD_ID)
    present = torch.zeros((len(texts), longest))
    for place, text in enumerate(texts):
        ids[place, : len(text)] = torch.tensor(text)
        present[place, : len(text)] = 1.0
    return ids.to(device), present.to(device)
