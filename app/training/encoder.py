"""Fine-tunes the encoder on the processor or a GPU; can be stopped at any moment and goes on where it was.

The same seed, texts, thread count and kind of machine give the same weights: every epoch is drawn from the seed and its
number, dropout from torch's generator, whose state is part of the saved run.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from app.training.network import Network, Output
from app.training.shelf import NO_FAMILY, OWN, WINDOW, Batch, Mixture, Shelf

START_ID: Final = 0
PAD_ID: Final = 1
HEAD_RATE: Final = 5.0
"""How many times faster the heads learn than the pretrained layers."""
LAYER_DECAY: Final = 0.95
"""Each layer learns so much slower than the one above it."""
WEIGHT_DECAY: Final = 0.01
WARM_UP: Final = 0.04
"""Share of a stage in which the rate rises."""
FINAL_RATE: Final = 0.01
"""Share of the peak rate that is left at the end."""
AVERAGE: Final = 0.998
"""Decay of the running average of the weights, which is what is kept, at 8,192 sub-words a step."""
FAMILY_LOSS: Final = 0.25
PAIR_LOSS: Final = 0.5
PART_LOSS: Final = 0.4
ECHO_LOSS: Final = 0.3
"""Of an exit against the judgement of the last one."""
TAUGHT: Final = 0.5
"""How much of the target is what teachers think, where there are any."""
FOREIGN_TAUGHT: Final = 0.8
"""The same of other people's texts, whose labels are less sure."""
TAUGHT_PARTS_LOSS: Final = 0.4
"""Of where an attack stands, against what teachers think of it."""
STATES_LOSS: Final = 1.0
"""Of how far each exit's states are from those of the network that is imitated, as a share of what these vary."""
STRONGEST: Final = 3
"""Sub-words of an attack that must stand out when it is not known where in it the attack lies."""
WITHHELD: Final = 0.05
"""Share of sub-words whose embedding is withheld in training, so that no single word decides."""
EIGHT: Final = 8
"""Batches are padded to a multiple of it, which GPUs are quick at."""
SAVE_EVERY: Final = 120.0
"""Seconds between saved states."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    mixture: Mixture
    epochs: int
    rate: float
    """Peak learning rate of the topmost pretrained layer."""
    batch: int
    """Sub-words of a batch, padding counted."""
    steps: int | None = None
    """Batches after which the stage ends, even within an epoch."""
    average: float = AVERAGE
    """Decay of the running average."""
    falls: bool = True
    """Whether the learning rate falls to almost nothing within the stage; the next one then warms up again."""


def has_16_bits(device: torch.device) -> bool:
    """Return whether to train with products of 16 bits (bfloat16): on GPUs, on processors with AMX, where 2,700
    sub-words a second became 5,000, and on those with AVX-512 of that format, where a batch takes half the time. The
    processor is asked by private functions; the version of torch is pinned."""
    able = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" or bool(able)


class Trainer:
    """Holds network, optimiser and running average; `run` goes through the plan from wherever the saved state ends.

    On a GPU a resumed run is not the same to the bit: only the processor's random state is kept.
    """

    def __init__(
        self,
        network: Network,
        words: Tensor,
        shelf: Shelf,
        seed: int,
        folder: Path,
        tell: Progress,
        teachers: Sequence[Network] = (),
        *,
        imitates: bool = False,
    ) -> None:
        """`imitates` has the network learn the states of its first teacher too, which judges after the same layers, and
        may after others behind them."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # cuDNN's attention plans anew for every shape of a batch, and nearly every batch has its own.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.network = network.to(self.device)
        self.average = copy.deepcopy(network).eval().to(self.device)
        self._teachers = [teacher.eval().to(self.device) for teacher in teachers]
        self._imitates = imitates
        self._words = words.to(self.device)
        self._shelf = shelf
        self._texts = OnDevice.of(shelf, self.device)
        self._seed = seed
        self._state = folder / "encoder_state.pt"
        self._tell = tell
        self._plan = ""
        network.norm.requires_grad_(False)
        groups = [
            {"params": list(layer.parameters()), "scale": LAYER_DECAY ** (len(network.layers) - 1 - number)}
            for number, layer in enumerate(network.layers)
        ]
        groups.append({"params": list(network.heads.parameters()), "scale": HEAD_RATE})
        self._optimiser = torch.optim.AdamW(groups, lr=1e-5, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True)

    def run(self, stages: Sequence[Stage], after_epoch: Callable[[str], None]) -> None:
        """Train through all stages. `after_epoch` is called with a title whenever one is done."""
        counts = [self._planned(stage) for stage in stages]
        total = sum(map(sum, counts))
        self._plan = f"seed {self._seed}, {counts}, {len(self._teachers)} teachers"
        done = self._restore()
        self._tell(f"{total} steps, {done} of them done")
        at, warm, saved, started, read = 0, 0, time.monotonic(), time.monotonic(), 0
        for stage, planned in zip(stages, counts, strict=True):
            begin, end = at, at + sum(planned)
            for number, steps in enumerate(planned):
                if at + steps <= done:
                    at += steps
                    continue
                losses: list[Tensor] = []
                for batch in islice(self._batches(stage, number), steps):
                    at += 1
                    if at <= done:
                        continue
                    share = min(1.0, (at - warm) / (WARM_UP * (end - begin) + 1))
                    share *= FINAL_RATE + (1 - FINAL_RATE) * ((end - at) / (end - begin) if stage.falls else 1.0)
                    losses.append(self._step(batch, at, stage.rate * share, stage.average))
                    read += int(batch.lengths.sum())
                    if at % 100 == 0:
                        loss = float(torch.stack(losses[-100:]).mean())
                        pace = read / (time.monotonic() - started)
                        self._tell(f"step {at}/{total}, loss {loss:.3f}, {pace:.0f} sub-words/s")
                    if time.monotonic() - saved > SAVE_EVERY:
                        self._save(at)
                        saved = time.monotonic()
                self._save(at)
                after_epoch(f"{stage.name}, epoch {number + 1} of {stage.epochs}")
            warm = end if stage.falls else warm

    def _planned(self, stage: Stage) -> list[int]:
        """Return the number of steps of each epoch."""
        left = stage.steps if stage.steps is not None else sys.maxsize
        planned = []
        for number in range(stage.epochs):
            planned.append(min(left, sum(1 for _ in self._batches(stage, number))))
            left -= planned[-1]
        return planned

    def _batches(self, stage: Stage, number: int) -> Iterator[Batch]:
        return self._shelf.epoch(stage.mixture, f"{self._seed}:{stage.name}", number, stage.batch)

    def _step(self, batch: Batch, at: int, rate: float, average: float) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        self._train()
        ids, present = self._texts.show(batch)
        words = functional.embedding(ids, self._words)
        imitated = len(self.network.exits) if self._imitates else 0
        opinion = opinion_of(self._teachers, words, present, imitated) if self._teachers else None
        words = words * (torch.rand(ids.shape, device=self.device) >= WITHHELD)[:, :, None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_16_bits(self.device)):
            outputs = self.network(words, present)
        loss = loss_of(outputs, present, self._texts.labels(batch), opinion)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_((p for p in self.network.parameters() if p.requires_grad), 1.0)
        self._optimiser.step()
        keep = min(average, (1 + at) / (10 + at))
        with torch.no_grad():
            kept, current = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(kept, current, 1 - keep)
        return loss.detach()

    def _train(self) -> None:
        """Set to training what learns; the rest computes as it ships."""
        self.network.train()
        for part in (*self.network.layers, *self.network.heads):
            part.train(any(parameter.requires_grad for parameter in part.parameters()))

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


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of a batch's texts; shape (texts,) but for `planted`."""

    attack: Tensor
    family: Tensor
    weights: Tensor
    smoothing: Tensor
    planted: Tensor
    """First sub-word planted and one past the last, the start token counted; twice -1 where it is not known."""
    pairs: Tensor
    """Place of the harmless twin in the batch, for attacks that have one there; else -1."""
    taught: Tensor
    """How much of the target is what teachers think, where there are any."""


@dataclass(frozen=True, slots=True)
class OnDevice:
    """The shelf where the network is."""

    ids: Tensor
    starts: Tensor
    attack: Tensor
    family: Tensor
    smoothing: Tensor
    planted: Tensor
    taught: Tensor
    twins: NDArray[np.int64]
    """Number of the pair of each text, or -1; stays with the processor."""
    is_attack: NDArray[np.bool_]

    @classmethod
    def of(cls, shelf: Shelf, device: torch.device) -> OnDevice:
        def put(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(device)

        return cls(
            put(shelf.ids.astype(np.int32)),
            put(shelf.starts),
            put(shelf.attack.astype(np.float32)),
            put(shelf.family),
            put(shelf.smoothing),
            put(shelf.planted),
            put(_taught_shares(shelf)),
            shelf.pairs,
            shelf.attack,
        )

    def show(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return sub-words, with a start token, and which are there; both of shape (texts, longest)."""
        device = self.ids.device
        lengths = torch.from_numpy(batch.lengths).to(device)
        starts = self.starts[torch.from_numpy(batch.texts).to(device)] + torch.from_numpy(batch.skipped).to(device)
        longest = -(-(int(batch.lengths.max(initial=0)) + 1) // EIGHT) * EIGHT
        place = torch.arange(longest, device=device)
        there = place[None, :] <= lengths[:, None]
        at = (starts[:, None] + place - 1).clamp(0, len(self.ids) - 1)
        ids = torch.where(there & (place > 0), self.ids[at].long(), START_ID)
        return torch.where(there, ids, PAD_ID), there.float()

    def labels(self, batch: Batch) -> Labels:
        device = self.ids.device
        texts = torch.from_numpy(batch.texts).to(device)
        skipped = torch.from_numpy(batch.skipped).to(device)
        planted = self.planted[texts]
        planted = torch.where(planted >= 0, planted - skipped[:, None] + 1, planted)
        harmless: dict[int, int] = {}
        pairs = self.twins[batch.texts]
        for place in np.flatnonzero((pairs >= 0) & ~self.is_attack[batch.texts]).tolist():
            harmless[int(pairs[place])] = place
        twin = np.full(len(pairs), -1, np.int64)
        for place in np.flatnonzero((pairs >= 0) & self.is_attack[batch.texts]).tolist():
            twin[place] = harmless.get(int(pairs[place]), -1)
        return Labels(
            self.attack[texts],
            self.family[texts],
            torch.from_numpy(batch.weights).to(device),
            self.smoothing[texts],
            planted,
            torch.from_numpy(twin).to(device),
            self.taught[texts],
        )


def _taught_shares(shelf: Shelf) -> NDArray[np.float32]:
    """Return how much teachers say of each text. Where some own texts are known and others are not, a training goes on
    with what came since, and teachers of before have nothing to say of it."""
    shares = np.where(shelf.smoothing > 0, np.float32(FOREIGN_TAUGHT), np.float32(TAUGHT))
    came_since = (shelf.reservoirs == OWN) & ~shelf.known & shelf.known.any()
    return np.where(came_since, np.float32(0), shares)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What teachers think of a batch's texts, as probabilities."""

    attack: Tensor
    """Shape (texts,)."""
    parts: Tensor
    """That each sub-word is part of an attack; shape (texts, length)."""
    states: tuple[Tensor, ...] = ()
    """Of the network that is imitated, at each exit; none where none is."""


@torch.no_grad()
def opinion_of(teachers: Sequence[Network], words: Tensor, present: Tensor, imitated: int = 0) -> Opinion:
    """Return the mean of what teachers think, with the states of the first one at so many exits."""
    with torch.autocast(words.device.type, torch.bfloat16, enabled=has_16_bits(words.device)):
        first, *others = [teacher(words, present) for teacher in teachers]
    outputs = [first[-1], *(each[-1] for each in others)]
    return Opinion(
        torch.stack([output.logits.sigmoid() for output in outputs]).mean(dim=0),
        torch.stack([output.token_logits.sigmoid() for output in outputs]).mean(dim=0),
        tuple(output.states for output in first[:imitated]),
    )


def loss_of(outputs: Sequence[Output], present: Tensor, labels: Labels, opinion: Opinion | None = None) -> Tensor:
    """Return what is minimised, over all exits: judgement, family, order within pairs, where in a text the attack
    stands; for all exits but the last how far they are from the last one's judgement (self-distillation, Zhang et al.,
    "Be Your Own Teacher", 2019); and where teachers have an opinion, how far they are from it (Hinton et al.,
    "Distilling the Knowledge in a Neural Network", 2015), and from the states of the network that is imitated (Romero
    et al., "FitNets: Hints for Thin Deep Nets", 2015)."""
    weights = labels.weights / labels.weights.sum()
    last = outputs[-1].logits.detach().sigmoid()
    total = outputs[-1].logits.new_zeros(())
    for output in outputs:
        total = total + _loss_at(output, present, labels, weights, opinion)
        if output is not outputs[-1]:
            echo = functional.binary_cross_entropy_with_logits(output.logits, last, reduction="none")
            total = total + ECHO_LOSS * (weights * echo).sum()
    if opinion is not None and opinion.states:
        for output, states in zip(outputs, opinion.states, strict=True):
            total = total + STATES_LOSS * _distance(output.states, states, present)
    return total


def _distance(states: Tensor, imitated: Tensor, present: Tensor) -> Tensor:
    """Return the mean squared distance of states, as a share of the variance of those that are imitated."""
    there = present > 0
    ours, theirs = states[there].float(), imitated[there].float()
    return (ours - theirs).square().mean() / theirs.var(dim=0).mean()


def _loss_at(output: Output, present: Tensor, labels: Labels, weights: Tensor, opinion: Opinion | None) -> Tensor:
    target = labels.attack * (1 - labels.smoothing) + labels.smoothing / 2
    if opinion is not None:
        target = (1 - labels.taught) * target + labels.taught * opinion.attack
    judged = functional.binary_cross_entropy_with_logits(output.logits, target, reduction="none")
    sorted_out = functional.cross_entropy(output.family_logits, labels.family, reduction="none", ignore_index=NO_FAMILY)
    parts = _part_loss(output.token_logits, present, labels)
    loss = (weights * (judged + FAMILY_LOSS * sorted_out + PART_LOSS * parts)).sum()
    if opinion is not None:
        each = functional.binary_cross_entropy_with_logits(output.token_logits, opinion.parts, reduction="none")
        heeded = weights * (labels.taught > 0)
        loss = loss + TAUGHT_PARTS_LOSS * (heeded * (each * present).sum(dim=1) / present.sum(dim=1)).sum()
    return loss + PAIR_LOSS * _pair_loss(output.logits, labels.pairs)


def _part_loss(token_logits: Tensor, present: Tensor, labels: Labels) -> Tensor:
    """Return, for each text, how wrong it is about which sub-words belong to an attack; shape (texts,)."""
    place = torch.arange(token_logits.shape[1], device=token_logits.device)
    body = present * (place > 0)
    body = torch.where(body.sum(dim=1, keepdim=True) > 0, body, present)  # A text of a start token alone.
    count = body.sum(dim=1)
    known = labels.planted[:, 0] >= 0
    inside = ((place >= labels.planted[:, :1]) & (place < labels.planted[:, 1:]) & known[:, None]).float()
    each = functional.binary_cross_entropy_with_logits(token_logits, inside, reduction="none")
    mean = (each * body).sum(dim=1) / count  # For a harmless text nothing is inside.
    strongest, _ = token_logits.masked_fill(body == 0, -1e4).topk(min(STRONGEST, token_logits.shape[1]), dim=1)
    counted = (torch.arange(strongest.shape[1], device=place.device) < count[:, None]).float()
    peak = (strongest * counted).sum(dim=1) / counted.sum(dim=1)
    harmless = mean + 0.3 * functional.softplus(strongest[:, 0])
    return torch.where(known, mean, torch.where(labels.attack > 0, functional.softplus(-peak), harmless))


def _pair_loss(logits: Tensor, twins: Tensor) -> Tensor:
    """An attack should stand two above its harmless twin."""
    gap = logits - logits[twins.clamp(min=0)]
    return (functional.softplus(2 - gap) * (twins >= 0)).sum() * 2 / len(logits)


@torch.no_grad()
def judge(
    network: Network, words: Tensor, texts: Sequence[NDArray[np.uint32]], batch: int = 16_384
) -> list[list[NDArray[np.float32]]]:
    """Return, for each exit and text, the attack logits of the text's windows; texts come without start tokens."""
    network.eval()
    room, stride = WINDOW - 1, WINDOW * 3 // 4
    places = [
        (min(room, len(ids) - at), text, at)
        for text, ids in enumerate(texts)
        for at in range(0, 1 + max(0, -(-(len(ids) - room) // stride)) * stride, stride)
    ]
    places.sort()
    logits: list[list[dict[int, float]]] = [[{} for _ in texts] for _ in network.exits]
    begin = 0
    while begin < len(places):
        end = begin + 1
        while end < len(places) and (places[end][0] + 1) * (end - begin + 1) <= batch:
            end += 1
        chunk = places[begin:end]
        longest = chunk[-1][0] + 1
        ids = np.full((len(chunk), longest), PAD_ID, np.int64)
        for row, (length, text, at) in enumerate(chunk):
            ids[row, 0] = START_ID
            ids[row, 1 : length + 1] = texts[text][at : at + length]
        lengths = np.array([length for length, _, _ in chunk])
        present = (np.arange(longest) <= lengths[:, None]).astype(np.float32)
        shown = functional.embedding(torch.from_numpy(ids).to(words.device), words)
        with torch.autocast(words.device.type, torch.bfloat16, enabled=has_16_bits(words.device)):
            outputs = network(shown, torch.from_numpy(present).to(words.device))
        for number, output in enumerate(outputs):
            for (_, text, at), logit in zip(chunk, output.logits.tolist(), strict=True):
                logits[number][text][at] = logit
        begin = end
    return [[np.array([value for _, value in sorted(row.items())], np.float32) for row in rows] for rows in logits]
