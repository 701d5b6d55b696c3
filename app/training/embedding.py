"""Trains the semantic branch: how sub-words are projected, one hidden layer, and prototypes of each family.

Of a text the loudest window counts, as in the service: nobody tells where in it an attack stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from app.detection.families import Family
from app.detection.features import TextFeatures
from app.detection.pooling import FILTERS, LINEAR, POOLED, PROJECTED, chosen_blocks, cut_blocks
from app.detection.semantic import DIMENSIONS, HIDDEN
from app.subwords import WIDTH, SubWordTable

PROTOTYPES: Final = 4
"""Prototypes per family: what belongs to a family need not look alike."""
SHARPNESS: Final = 10.0
FAMILY_WEIGHT: Final = 0.25
"""Weight of the choice of the family beside "attack or not"."""
EPOCHS: Final = 10
"""Area under the ROC curve on the held-out tenth, with labels alone: 0.935 after three, 0.942 after six."""
LEAST_STEPS: Final = 300
"""Of a small corpus, for which there are more epochs."""
BATCH: Final = 9_000
"""Sub-words of the texts that are learned from together, about."""
MOST_TEXTS: Final = 256
"""Of a batch."""
STEP: Final = 2e-3
WARM_UP: Final = 0.03
"""Share of the batches in which the step rises."""
DECAY: Final = 0.05
WORDS_DROPPED: Final = 0.08
INPUT_DROPPED: Final = 0.2
HIDDEN_DROPPED: Final = 0.3
RARE_FROM: Final = 1e-3
"""Share of all sub-words at which one counts half as much as a rare one (Arora et al., 2017)."""
_SPREAD: Final = 1e-5
"""Added to variances: a dimension that hardly differs tells nothing."""
_NEVER: Final = -1e4
"""Below everything."""
_PIECE: Final = 8_192
FAMILIES: Final = tuple(sorted(Family, key=lambda family: not family.is_attack))
_ATTACKS: Final = sum(family.is_attack for family in FAMILIES)


@dataclass(frozen=True)
class Inputs:
    """Many texts as sub-words, block by block."""

    ids: NDArray[np.int64]
    """Of all texts, one after the other."""
    blocks: NDArray[np.int64]
    """Sub-words of each block that is read, of all texts; shape (blocks,)."""
    read: NDArray[np.int64]
    """Blocks of each text that are read; shape (texts,)."""
    windows: NDArray[np.int64]
    """Windows of each text, those that are not read among them; shape (texts,)."""

    @cached_property
    def first_block(self) -> NDArray[np.int64]:
        """Of each text, and one past the last; shape (texts + 1,)."""
        return np.concatenate(([0], np.cumsum(self.read)))

    @cached_property
    def first_id(self) -> NDArray[np.int64]:
        """Of each text, and one past the last; shape (texts + 1,)."""
        return np.concatenate(([0], np.cumsum(self.blocks)))[self.first_block]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Sub-words of each text that are read; shape (texts,)."""
        return np.diff(self.first_id)

    def sub_words(self, texts: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        """Return the sub-words of some texts, one after the other, and how many each of their blocks has."""
        ids = [self.ids[self.first_id[text] : self.first_id[text + 1]] for text in texts]
        blocks = [self.blocks[self.first_block[text] : self.first_block[text + 1]] for text in texts]
        return torch.from_numpy(np.concatenate(ids)), np.concatenate(blocks)


class Network(nn.Module):
    """From sub-words to how much each prototype attracts each window."""

    words: Tensor
    rarity: Tensor

    def __init__(self, words: Tensor, rarity: Tensor) -> None:
        """`words` are the embeddings of all sub-words, (rows, WIDTH), which stay as they are; `rarity` is (rows,)."""
        super().__init__()
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("rarity", rarity, persistent=False)
        self.project = nn.Linear(WIDTH, PROJECTED, bias=False)
        nn.init.normal_(self.project.weight, std=0.045)
        self.filter_bias = nn.Parameter(torch.zeros(FILTERS))
        self.norm = nn.BatchNorm1d(2 * POOLED, _SPREAD, momentum=0.02, affine=False)
        self.enter = nn.Linear(2 * POOLED, HIDDEN)
        self.embed = nn.Linear(HIDDEN, DIMENSIONS)
        self.prototypes = nn.Parameter(torch.randn(len(FAMILIES) * PROTOTYPES, DIMENSIONS))

    def forward(self, inputs: Inputs, texts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return how much each family attracts each window that is read, (windows, families), and the place of each
        window's text among `texts`."""
        ids, lengths = inputs.sub_words(texts)
        read = inputs.read[texts]
        block_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.from_numpy(lengths))
        text_of = torch.repeat_interleave(torch.arange(len(texts)), torch.from_numpy(read))
        rarity = self.rarity[ids][:, None]
        seen = self._seen(ids, text_of[block_of])
        stretches = _Stretches.of(seen, rarity, block_of, len(lengths))
        windows, owners = _windows(read)
        by_window = stretches.gathered(windows).pooled()
        by_text = stretches.added(text_of, len(texts)).pooled()
        entering = self.norm(torch.cat((by_window, by_text[owners]), dim=1))
        entering = functional.dropout(entering, INPUT_DROPPED, self.training)
        hidden = functional.dropout(functional.relu(self.enter(entering)), HIDDEN_DROPPED, self.training)
        units = functional.normalize(self.embed(hidden), dim=1)
        likeness = SHARPNESS * units @ functional.normalize(self.prototypes, dim=1).T
        return torch.logsumexp(likeness.view(-1, len(FAMILIES), PROTOTYPES), dim=2), owners

    def _seen(self, ids: Tensor, text_of: Tensor) -> Tensor:
        words = self.words[ids]
        if self.training:
            words = words * (torch.rand(len(ids), 1) >= WORDS_DROPPED)
        linear, first, middle, last = self.project(words).split((LINEAR, FILTERS, FILTERS, FILTERS), dim=1)
        border = (text_of[1:] != text_of[:-1])[:, None]
        nothing = torch.zeros(1, FILTERS)
        before = torch.cat((nothing, first[:-1].masked_fill(border, 0)))
        behind = torch.cat((last[1:].masked_fill(border, 0), nothing))
        filters = functional.relu(before + middle + behind + self.filter_bias)
        return torch.cat((linear, filters), dim=1)


@dataclass(frozen=True, slots=True)
class _Stretches:
    """The service's sums (app.detection.pooling), for many texts at once; one row for each stretch."""

    weights: Tensor
    """Number of the sub-words, and sum of their rarity; shape (stretches, 2)."""
    sums: Tensor
    """Shape (stretches, SEEN), as the next two."""
    by_rarity: Tensor
    high: Tensor
    low: Tensor
    """Minus the lowest values, which are the highest of minus all; shape (stretches, LINEAR)."""

    @classmethod
    def of(cls, seen: Tensor, rarity: Tensor, owners: Tensor, size: int) -> _Stretches:
        weights = torch.cat((torch.ones_like(rarity), rarity), dim=1)
        return cls(
            _added(weights, owners, size),
            _added(seen, owners, size),
            _added(seen * rarity, owners, size),
            _highest(seen, owners, size),
            _highest(-seen[:, :LINEAR], owners, size),
        )

    def gathered(self, pairs: Tensor) -> _Stretches:
        """Add up two stretches each, or take one that is named twice once; `pairs` is (windows, 2)."""
        one, other = pairs.T
        twice = (one == other)[:, None]

        def both(values: Tensor) -> Tensor:
            return values[one] + values[other].masked_fill(twice, 0)

        return _Stretches(
            both(self.weights),
            both(self.sums),
            both(self.by_rarity),
            torch.maximum(self.high[one], self.high[other]),
            torch.maximum(self.low[one], self.low[other]),
        )

    def added(self, owners: Tensor, size: int) -> _Stretches:
        return _Stretches(
            _added(self.weights, owners, size),
            _added(self.sums, owners, size),
            _added(self.by_rarity, owners, size),
            _highest(self.high, owners, size),
            _highest(self.low, owners, size),
        )

    def pooled(self) -> Tensor:
        count, rarity = self.weights.clamp(min=1e-6).unbind(dim=1)
        means = self.sums / count[:, None], self.by_rarity / rarity[:, None]
        return torch.cat((*means, self.high, -self.low), dim=1).masked_fill(self.weights[:, :1] == 0, 0)


def _added(values: Tensor, owners: Tensor, size: int) -> Tensor:
    return torch.zeros(size, values.shape[1]).index_add(0, owners, values)


def _highest(values: Tensor, owners: Tensor, size: int) -> Tensor:
    lowest = torch.full((size, values.shape[1]), _NEVER)
    return lowest.scatter_reduce(0, owners[:, None].expand_as(values), values, "amax")


def _windows(read: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return the two blocks of each window, the same twice where a text has one, and its text."""
    firsts = np.cumsum(read) - read
    pairs = [
        (first + at, first + min(at + 1, count - 1))
        for first, count in zip(firsts, read, strict=True)
        for at in range(max(1, count - 1))
    ]
    return torch.tensor(pairs), torch.repeat_interleave(
        torch.arange(len(read)), torch.from_numpy(np.maximum(read - 1, 1))
    )


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A trained network, as it judges and as it is written."""

    network: Network

    @torch.no_grad()
    def logits(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Return, for each text, the margin of attacks over harmless text of each window.

        A window that is not read counts as the calmest of those that are, as in the service.
        """
        self.network.eval()
        told = [np.empty(0, np.float32) for _ in inputs.read]
        for batch in _batches(inputs, np.flatnonzero(inputs.read)):
            families, owners = self.network(inputs, batch)
            ends = np.cumsum(np.bincount(owners.numpy(), minlength=len(batch)))
            for text, read in zip(batch, np.split(_margins(families).numpy(), ends[:-1]), strict=True):
                told[text] = np.full(inputs.windows[text], read.min(), np.float32)
                told[text][: len(read)] = read
        return told

    @torch.no_grad()
    def arrays(self) -> dict[str, NDArray[np.float16]]:
        """Return what `app.detection.semantic.Semantic` loads, but for the rarity, in 16 bits.

        Centre and spread of what is pooled are in the weights then.
        """
        net = self.network
        spread = torch.sqrt(net.norm.running_var + _SPREAD)
        enter = net.enter.weight / spread
        named = {
            "project": net.project.weight.T,
            "filter_bias": net.filter_bias,
            "by_window": enter[:, :POOLED].T,
            "by_text": enter[:, POOLED:].T,
            "bias": net.enter.bias - enter @ net.norm.running_mean,
            "embed": net.embed.weight.T,
            "centre": net.embed.bias,
            "prototypes": functional.normalize(net.prototypes, dim=1),
        }
        return {name: values.numpy().astype(np.float16) for name, values in named.items()}


def rarity_of(texts: Sequence[TextFeatures], table: SubWordTable) -> NDArray[np.float32]:
    """Return how much each sub-word counts in a mean by rarity: the less the more often it is in these texts."""
    counts = np.zeros(len(table.rows))
    for features in texts:
        counts += np.bincount(table.cut(features.text)[0], minlength=len(counts))
    share = counts / max(counts.sum(), 1)
    rarity: NDArray[np.float32] = (RARE_FROM / (RARE_FROM + share)).astype(np.float16).astype(np.float32)
    return rarity


def inputs_of(texts: Sequence[TextFeatures], table: SubWordTable) -> Inputs:
    """Cut texts as the branch does; of those that are too long for it the beginning."""
    ids, blocks, read = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
    for features in texts:
        count = int(chosen_blocks(features, _anywhere).sum()) if features.blocks else 0
        read.append(count)
        if count:
            of_text, owners = cut_blocks(features, table, 0, count)
            ids.append(of_text)
            blocks.append(np.bincount(owners, minlength=count))
    windows = np.array([features.windows for features in texts], np.int64)
    return Inputs(np.concatenate(ids), np.concatenate(blocks), np.array(read, np.int64), windows)


def _anywhere(features: TextFeatures) -> NDArray[np.float32]:
    return np.zeros(features.windows, np.float32)


def fit(
    inputs: Inputs,
    table: SubWordTable,
    rarity: NDArray[np.float32],
    families: Sequence[Family | None],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    seed: int,
    progress: Callable[[str], None],
) -> EmbeddingModel:
    """Fit on the texts with a positive weight. `families`, `target` (the probability of an attack) and `weight` have
    one entry per text.

    Loss: cross-entropy of the loudest window's side, and of its family under a softmax over the cosines with all
    prototypes (Proxy-NCA with several proxies: Movshovitz-Attias et al., 2017; SoftTriple: Qian et al., 2019). AdamW
    (Loshchilov and Hutter, 2019), the step falls to nothing.
    """
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    network = Network(_embeddings(table), torch.from_numpy(rarity))
    optimiser = torch.optim.AdamW(network.parameters(), STEP, weight_decay=DECAY)
    classes = np.array([-1 if family is None else FAMILIES.index(family) for family in families])
    learned = np.flatnonzero((weight > 0) & (inputs.read > 0))
    batches = sum(1 for _ in _batches(inputs, learned))
    epochs = max(EPOCHS, -(-LEAST_STEPS // max(batches, 1)))
    steps, at = epochs * batches, 0
    for epoch in range(epochs):
        network.train()
        losses = []
        for batch in _batches(inputs, chance.permutation(learned)):
            at += 1
            for group in optimiser.param_groups:
                group["lr"] = STEP * min(1, at / (WARM_UP * steps)) * max(1 - at / steps, 1e-3)
            wanted, share, told = (torch.from_numpy(values[batch]) for values in (target, weight, classes))
            if inputs.read[batch].max() < 3 and len(batch) == 1:
                continue  # A window alone has no spread to be measured in.
            attracted, owners = network(inputs, batch)
            loss = _loss(attracted, owners, wanted.float(), share.float(), told)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        progress(f"semantic epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f}")
    _settle(network, inputs, learned)
    return EmbeddingModel(network.eval())


@torch.no_grad()
def _settle(network: Network, inputs: Inputs, texts: NDArray[np.int64]) -> None:
    """Measure centre and spread of what is pooled anew, of all that was learned from and with nothing left out."""
    network.eval()
    network.norm.train()
    network.norm.reset_running_stats()
    network.norm.momentum = None  # The mean of all batches.
    for batch in _batches(inputs, texts):
        if len(batch) > 1:
            network(inputs, batch)


def _loss(families: Tensor, owners: Tensor, target: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """Return the loss of a batch; `classes` is the place of each text's family, negative where it is not known."""
    margins = _margins(families)
    order = np.lexsort((margins.detach().numpy(), owners.numpy()))
    loudest = torch.from_numpy(order[np.cumsum(np.bincount(owners.numpy())) - 1])
    judged = functional.binary_cross_entropy_with_logits(margins[loudest], target, reduction="none")
    sorted_out = functional.cross_entropy(families[loudest], classes, reduction="none", ignore_index=-1)
    return (weight * (judged + FAMILY_WEIGHT * sorted_out)).sum() / weight.sum()


def _margins(families: Tensor) -> Tensor:
    return families[:, :_ATTACKS].logsumexp(dim=1) - families[:, _ATTACKS:].logsumexp(dim=1)


def _batches(inputs: Inputs, texts: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yield texts in their order, cut into batches."""
    lengths = inputs.lengths[texts]
    begin, read = 0, 0
    for at, length in enumerate(lengths.tolist()):
        if at > begin and (read + length > BATCH or at - begin >= MOST_TEXTS):
            yield texts[begin:at]
            begin, read = at, 0
        read += length
    if begin < len(texts):
        yield texts[begin:]


def _embeddings(table: SubWordTable) -> Tensor:
    rows = np.arange(len(table.rows))
    return torch.from_numpy(
        np.concatenate([table.embeddings(rows[at : at + _PIECE]) for at in range(0, len(rows), _PIECE)])
    )
