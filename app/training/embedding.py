"""Trains the semantic branch: a deep averaging network and prototypes of each family, by a softmax over cosines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.detection.families import Family
from app.detection.features import TextFeatures
from app.detection.pooling import POOLED, read
from app.detection.semantic import DIMENSIONS, HIDDEN, RANK
from app.subwords import SubWordTable

PROTOTYPES: Final = 4
"""Prototypes per family: what belongs to a family need not look alike."""
SHARPNESS: Final = 10.0
FAMILY_WEIGHT: Final = 0.25
"""Weight of the choice of the family beside "attack or not"."""
EPOCHS: Final = 8
BATCH: Final = 256
STEP: Final = 1e-3
DECAY: Final = 0.05
"""Of the weights, times the step (AdamW: Loshchilov and Hutter, 2019)."""
INPUT_DROPPED: Final = 0.2
HIDDEN_DROPPED: Final = 0.3
RARE_FROM: Final = 1e-3
"""Share of all sub-words at which one counts half as much as a rare one (Arora et al., 2017)."""
_DECAY_1, _DECAY_2, _TINY = 0.9, 0.999, 1e-8
_SPREAD: Final = 1e-4
"""Added to standard deviations: a dimension that hardly differs tells nothing."""
_PIECE: Final = 4_096
"""Windows that are looked at together."""
FAMILIES: Final = tuple(sorted(Family, key=lambda family: not family.is_attack))
_IS_ATTACK: Final = np.array([family.is_attack for family in FAMILIES])
_CLASS_OF: Final = np.repeat(np.arange(len(FAMILIES)), PROTOTYPES)
"""Place of each prototype's family."""
_ATTACKS: Final = _IS_ATTACK[_CLASS_OF]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is pooled of many texts, in 16 bits."""

    windows: NDArray[np.float16]
    """Of all windows, text by text; shape (windows, POOLED)."""
    texts: NDArray[np.float16]
    """Shape (texts, POOLED)."""
    text_of: NDArray[np.int64]
    """Text of each window, ascending; shape (windows,)."""


@dataclass(slots=True)
class EmbeddingModel:
    centre: NDArray[np.float32]
    """What is taken off what is pooled of windows and texts; shape (2, POOLED)."""
    spread: NDArray[np.float32]
    """What that is then divided by; shape (2, POOLED)."""
    weights: dict[str, NDArray[np.float32]]
    """`enter` (2 POOLED, HIDDEN), `bias`, `embed` (HIDDEN, DIMENSIONS), `middle`; `prototypes` are unit vectors, family
    by family in the order of FAMILIES."""

    def logits(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the margin of attacks over harmless text of each window; shape (windows,)."""
        rows = np.arange(len(inputs.windows))
        pieces = [rows[at : at + _PIECE] for at in range(0, max(len(rows), 1), _PIECE)]
        return np.concatenate([_margins(self._likeness(self.entering(inputs, piece))) for piece in pieces])

    def arrays(self) -> dict[str, NDArray[np.float16]]:
        """Return the network as `app.detection.semantic.Layers` holds it, and the prototypes, in 16 bits.

        Centre and spread of what is pooled are in the weights then, and those that lead to the hidden values are the
        nearest ones of RANK (Eckart and Young, 1936), halves of each singular value on either side.
        """
        left, values, right = np.linalg.svd(self.weights["enter"], full_matrices=False)
        halves = np.sqrt(values[:RANK])
        narrow: NDArray[Any] = (left[:, :RANK] * halves).reshape(2, POOLED, RANK) / self.spread[:, :, None]
        widen = halves[:, None] * right[:RANK]
        named = {
            "by_window": narrow[0],
            "by_text": narrow[1],
            "widen": widen,
            "bias": self.weights["bias"] - np.einsum("ip,ipr->r", self.centre, narrow) @ widen,
            "embed": self.weights["embed"],
            "centre": self.weights["middle"],
            "prototypes": self.weights["prototypes"],
        }
        return {name: values.astype(np.float16) for name, values in named.items()}

    def entering(self, inputs: Inputs, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what enters the network of some windows; shape (rows, 2 POOLED)."""
        parts = inputs.windows[rows], inputs.texts[inputs.text_of[rows]]
        joined = [(part - self.centre[place]) / self.spread[place] for place, part in enumerate(parts)]
        entering: NDArray[np.float32] = np.concatenate(joined, axis=1, dtype=np.float32)
        return entering

    def _likeness(self, entering: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden = np.maximum(entering @ self.weights["enter"] + self.weights["bias"], 0)
        unit, _ = _unit(hidden @ self.weights["embed"] + self.weights["middle"])
        likeness: NDArray[np.float32] = unit @ self.weights["prototypes"].T
        likeness *= np.float32(SHARPNESS)
        return likeness

    def slopes(
        self,
        entering: NDArray[np.float32],
        kept: NDArray[np.float32],
        class_of: NDArray[np.int64],
        target: NDArray[np.float32],
        share: NDArray[np.float32],
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Return the mean loss of a batch and its slopes by all weights.

        Args:
            entering: shape (batch, 2 POOLED).
            kept: what is left of each hidden value, 0 where it is dropped; shape (batch, HIDDEN).
            class_of: place of each family, negative where it is not known.
            target: probability of an attack.
            share: how much each counts.
        """
        weights = self.weights
        hidden = np.maximum(entering @ weights["enter"] + weights["bias"], 0) * kept
        unit, lengths = _unit(hidden @ weights["embed"] + weights["middle"])
        logits = SHARPNESS * unit @ weights["prototypes"].T
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        told = (FAMILY_WEIGHT * (class_of >= 0)).astype(np.float32)[:, None]
        of_class = chance * (class_of[:, None] == _CLASS_OF)
        class_sum = np.maximum(of_class.sum(axis=1, keepdims=True), 1e-12)
        of_attacks, of_harmless = chance * _ATTACKS, chance * ~_ATTACKS
        attack_sum = np.maximum(of_attacks.sum(axis=1, keepdims=True), 1e-12)
        harmless_sum = np.maximum(of_harmless.sum(axis=1, keepdims=True), 1e-12)
        wanted = target[:, None]
        loss = -told * np.log(class_sum) - wanted * np.log(attack_sum) - (1 - wanted) * np.log(harmless_sum)
        by_logit = told * (chance - of_class / class_sum)
        by_logit += chance - wanted * of_attacks / attack_sum - (1 - wanted) * of_harmless / harmless_sum
        by_logit *= (SHARPNESS * share / len(share))[:, None]
        by_unit = by_logit @ weights["prototypes"]
        by_embedding = (by_unit - unit * (by_unit * unit).sum(axis=1, keepdims=True)) / lengths
        by_hidden = (by_embedding @ weights["embed"].T) * kept * (hidden > 0)
        return float((loss[:, 0] * share).mean()), {
            "enter": entering.T @ by_hidden,
            "bias": by_hidden.sum(axis=0),
            "embed": hidden.T @ by_embedding,
            "middle": by_embedding.sum(axis=0),
            "prototypes": by_logit.T @ unit,
        }


def rarity_of(texts: Sequence[TextFeatures], table: SubWordTable) -> NDArray[np.float32]:
    """Return how much each sub-word counts in a mean by rarity: the less the more often it is in these texts."""
    counts = np.zeros(len(table.rows))
    for features in texts:
        counts += np.bincount(table.cut(features.text)[0], minlength=len(counts))
    share = counts / max(counts.sum(), 1)
    rarity: NDArray[np.float32] = (RARE_FROM / (RARE_FROM + share)).astype(np.float16).astype(np.float32)
    return rarity


def pooled(texts: Sequence[TextFeatures], table: SubWordTable, rarity: NDArray[np.float32]) -> Inputs:
    """Pool texts whole, as the branch does with those that are not too long for it."""
    windows, whole = [np.empty((0, POOLED), np.float16)], np.zeros((len(texts), POOLED), np.float16)
    for place, features in enumerate(texts):
        if not features.blocks:
            continue
        windows.append(np.zeros((features.windows, POOLED), np.float16))
        seen = read(features, table, rarity, _anywhere)
        windows[-1][seen.windows] = seen.values
        whole[place] = seen.text
    counts = [features.windows for features in texts]
    return Inputs(np.concatenate(windows), whole, np.repeat(np.arange(len(texts)), counts))


def _anywhere(features: TextFeatures) -> NDArray[np.float32]:
    """Of a text that is too long, the beginning is learned from."""
    return np.zeros(features.windows, np.float32)


def fit(
    inputs: Inputs,
    families: Sequence[Family | None],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    seed: int,
    progress: Callable[[str], None],
) -> EmbeddingModel:
    """Fit on the windows with a positive weight; `families` and `target` (the probability of an attack) have one entry
    per text, `weight` one per window.

    Loss: minus the log-probability of the text's family and of its side, under a softmax over the cosines with all
    prototypes (Proxy-NCA with several proxies: Movshovitz-Attias et al., 2017; SoftTriple: Qian et al., 2019). AdamW.
    """
    chance = np.random.default_rng(seed)
    rows = np.flatnonzero(weight > 0)
    classes = np.array([-1 if family is None else FAMILIES.index(family) for family in families])[inputs.text_of[rows]]
    wanted = target[inputs.text_of[rows]].astype(np.float32)
    share = (weight[rows] / weight[rows].mean()).astype(np.float32)
    model = _untrained(inputs, rows, chance)
    steps = {name: _Adam(values) for name, values in model.weights.items()}
    batches = -(-len(rows) // BATCH)
    for epoch in range(EPOCHS):
        total = 0.0
        for number, batch in enumerate(_batches(len(rows), chance)):
            entering = model.entering(inputs, rows[batch])
            entering *= _kept(entering.shape, INPUT_DROPPED, chance)
            kept = _kept((len(batch), HIDDEN), HIDDEN_DROPPED, chance)
            value, slopes = model.slopes(entering, kept, classes[batch], wanted[batch], share[batch])
            rate = STEP * (1 - (epoch * batches + number) / (EPOCHS * batches))
            for name, slope in slopes.items():
                steps[name].apply(model.weights[name], slope, rate)
            model.weights["prototypes"] = _unit(model.weights["prototypes"])[0]
            total += value
        progress(f"semantic epoch {epoch + 1} of {EPOCHS}: loss {total / batches:.3f}")
    return model


def _untrained(inputs: Inputs, rows: NDArray[np.int64], chance: np.random.Generator) -> EmbeddingModel:
    parts = inputs.windows[rows], inputs.texts
    centre = np.array([part.mean(axis=0, dtype=np.float64) for part in parts], np.float32)
    spread = np.array([part.std(axis=0, dtype=np.float64) for part in parts], np.float32) + np.float32(_SPREAD)

    def drawn(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (chance.uniform(-1, 1, shape) / np.sqrt(shape[0])).astype(np.float32)
        return values

    weights = {
        "enter": drawn(2 * POOLED, HIDDEN),
        "bias": np.zeros(HIDDEN, np.float32),
        "embed": drawn(HIDDEN, DIMENSIONS),
        "middle": np.zeros(DIMENSIONS, np.float32),
        "prototypes": _unit(chance.standard_normal((len(_CLASS_OF), DIMENSIONS)).astype(np.float32))[0],
    }
    return EmbeddingModel(centre, spread, weights)


def _batches(count: int, chance: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = chance.permutation(count)
    for at in range(0, count, BATCH):
        yield order[at : at + BATCH]


def _kept(shape: tuple[int, ...], dropped: float, chance: np.random.Generator) -> NDArray[np.float32]:
    """Return what is left of each value: nothing of a share of them, more of the others."""
    kept: NDArray[np.float32] = (chance.random(shape, dtype=np.float32) >= dropped).astype(np.float32)
    kept /= np.float32(1 - dropped)
    return kept


def _margins(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    attacks, harmless = (np.logaddexp.reduce(likeness[:, side], axis=1) for side in (_ATTACKS, ~_ATTACKS))
    margins: NDArray[np.float32] = attacks - harmless
    return margins


def _unit(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors at length 1, and their lengths as a column."""
    lengths = np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), np.float32(1e-6))
    return vectors / lengths, lengths


class _Adam:
    """Adam (Kingma and Ba, 2015) over one dense array, with weights that decay by themselves."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._first = np.zeros_like(values)
        self._second = np.zeros_like(values)
        self._steps = 0

    def apply(self, values: NDArray[np.float32], slope: NDArray[np.float32], rate: float) -> None:
        self._steps += 1
        self._first *= _DECAY_1
        self._first += (1 - _DECAY_1) * slope
        self._second *= _DECAY_2
        self._second += (1 - _DECAY_2) * slope * slope
        factor = rate * np.sqrt(1 - _DECAY_2**self._steps) / (1 - _DECAY_1**self._steps)
        values *= np.float32(1 - rate * DECAY)
        values -= np.float32(factor) * self._first / (np.sqrt(self._second) + np.float32(_TINY))
