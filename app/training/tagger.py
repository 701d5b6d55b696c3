"""Trains the tagger of names on marked texts: minutes on two cores, from the seed alone."""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from app.pii.config import read_names
from app.pii.given_names import GivenNames
from app.pii.tagger import ENTITIES, LOOKS, MODEL_FILE, look
from app.settings import default_config_dir
from app.subwords import WIDTH, SubWordTable, shipped
from app.training.base import EPSILON
from app.training.corpus import Row
from app.training.export import Graph

INNER: Final = 128
DILATIONS: Final = (1, 2, 4, 8, 1)
"""Of the five convolutions over three sub-words each: a word is judged by sixteen sub-words on either side."""
DROPOUT: Final = 0.15
HIDDEN_WORDS: Final = 0.12
"""Share of words whose embedding is withheld in training, so that the look and the neighbours must do."""
BATCH: Final = 32
POOL: Final = 16 * BATCH
"""Texts that are sorted by length before they are cut into batches: padded to the longest of any 32, three quarters of
a batch would be padding."""
FULL_BATCH: Final = 60 * BATCH
"""Sub-words of a batch from which its loss is a mean: those of shorter texts would count more each."""
PEAK_RATE: Final = 3e-3
WEIGHT_DECAY: Final = 0.02
EPOCHS: Final = 24
LONGEST: Final = 700
"""Sub-words of a text that are read in training."""
LOWER_SHARE: Final = 0.12
UPPER_SHARE: Final = 0.03
PLAIN_SHARE: Final = 0.08
"""Of texts whose accents are taken away."""
SWAP_SHARE: Final = 0.45
"""Of values that are replaced by another one of their kind."""
AVERAGE: Final = 0.998
HELD_OUT_PERCENT: Final = 10
CALM: Final = 2_000
"""Prompts that name nobody, of an epoch."""
CALM_WEIGHT: Final = 0.5
PASSAGES: Final = 1_600
"""Passages of code and manuals that name nobody, of an epoch."""
FOREIGN_WEIGHT: Final = 0.6
_LONGEST_CALM: Final = 400
_CAPITAL: Final = re.compile(r"\b[^\W\d_a-ząćęłńóśźż][^\W\d_]+")
_WORD: Final = re.compile(r"[^\W\d_]+")
_PERSONAL: Final = re.compile(
    r"[@\d]|\b(my|our|i live|i am from|im from|mieszkam|mój|moja|moje|mojej|mojego|nasz\w*)\b", re.IGNORECASE
)
"""Where a place or a date may be somebody's."""
_SOMEBODY: Final = re.compile(r"@|©|\(c\)|author|copyright|maintain|thanks|credit|written by|autor", re.IGNORECASE)
"""Where a passage of code or of a manual may name somebody."""
_RENAMED: Final = {"GPE": "LOCATION"}
_SWAPPED: Final = frozenset({"PERSON", "LOCATION", "USERNAME"})
_DOUBTFUL: Final = "ORGANIZATION"
"""Marked in some files and not in others: nothing is learned where it stands."""
_NOTHING_LEARNED: Final = -100

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Marked:
    """A text and what stands in it: (start, end, entity), code points, end exclusive."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    language: str
    held_out: bool
    weight: float = 1.0


def load(paths: Iterable[Path], weight: float = 1.0, held_out: int = HELD_OUT_PERCENT) -> list[Marked]:
    """Read marked texts; entities that the tagger does not know are left to the patterns."""
    rows = []
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            named = ((s["start"], s["end"], _RENAMED.get(s["entity"], s["entity"])) for s in row["spans"])
            digest = int.from_bytes(hashlib.sha256(row["text"].encode()).digest()[:4], "big")
            rows.append(
                Marked(
                    row["text"],
                    tuple(span for span in named if span[2] in (*ENTITIES, _DOUBTFUL)),
                    row.get("lang", "en"),
                    digest % 100 < held_out,
                    weight,
                )
            )
    return rows


def load_calm(paths: Iterable[Path], given_names: GivenNames) -> list[Marked]:
    """Read harmless prompts of detection's texts that name nobody: what most prompts are like.

    A whole message of a few words may be a name in small letters: of SHORT_FILES no text is read that holds what could
    be one, nor a capital letter after its beginning.
    """
    rows = []
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            words = _CAPITAL.findall(row["text"])
            if row["label"] != "benign" or row["lang"] not in ("en", "pl") or len(row["text"]) > _LONGEST_CALM:
                continue
            if path.stem in SHORT_FILES:
                words += [word.capitalize() for word in _WORD.findall(row["text"])]
                if _CAPITAL.search(row["text"], 1):
                    continue
            if not any(word in given_names for word in words) and not _PERSONAL.search(row["text"]):
                rows.append(Marked(row["text"], (), row["lang"], held_out=False, weight=CALM_WEIGHT))
    return rows


def load_passages(rows: Iterable[Row], given_names: GivenNames) -> list[Marked]:
    """Return the passages of code and manuals that name nobody: their identifiers are no user names, and words with a
    capital letter no people."""
    return [
        Marked(row.text, (), "en" if row.english else "", held_out=False, weight=CALM_WEIGHT)
        for row in rows
        if not row.held_out
        and not _SOMEBODY.search(row.text)
        and not any(word in given_names for word in _CAPITAL.findall(row.text))
    ]


CALM_FILES: Final = ("everyday_benign", "hard_benign_words", "hard_benign_requests", "loud_words", "polish")
"""Files of detection that prompts which name nobody are taken from."""
SHORT_FILES: Final = ("short_messages", "short_messages_2")
"""The same, of messages of a few words."""


def train(
    personal: Path,
    more: Path | None,
    calm: Path,
    out: Path,
    seed: int,
    progress: Progress,
    passages: Iterable[Row] = (),
) -> None:
    """Train the tagger and write it into `out`.

    Args:
        personal: folder of the project's own marked texts (JSON Lines).
        more: folder of other people's marked texts, which count less.
        calm: folder of detection's texts.
        out: folder that the model goes to.
        passages: of code and manuals.

    Raises:
        FileNotFoundError: there are no marked texts.
    """
    rows = load(personal.glob("*.jsonl"))
    if not rows:
        raise FileNotFoundError(personal)
    if more is not None:
        rows += load(more.glob("*.jsonl"), FOREIGN_WEIGHT, held_out=0)
    given_names = GivenNames(read_names(default_config_dir()))
    files = [calm / f"{name}.jsonl" for name in (*CALM_FILES, *SHORT_FILES)]
    quiet = load_calm([path for path in files if path.exists()], given_names)
    nobody = load_passages(passages, given_names)
    progress(f"tagger: {len(rows)} marked texts, {len(quiet)} prompts and {len(nobody)} passages that name nobody")
    write(teach(rows, [(quiet, CALM), (nobody, PASSAGES)], shipped(), given_names, seed, progress), out)


class Network(nn.Module):
    """From embeddings and looks to one of the entities, or nothing, for each sub-word."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(WIDTH + LOOKS, INNER)
        self.norm = nn.LayerNorm(INNER, EPSILON)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(INNER, INNER, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(INNER, EPSILON) for _ in DILATIONS)
        self.judge = nn.Linear(INNER, 1 + len(ENTITIES))

    def forward(self, inputs: Tensor, present: Tensor) -> Tensor:
        """Return logits; `inputs` (texts, length, WIDTH + LOOKS), `present` (texts, length, 1)."""
        states = self.norm(functional.gelu(self.enter(inputs)))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = functional.dropout(states, DROPOUT, self.training) * present
            change = functional.gelu(convolution(states.transpose(1, 2)).transpose(1, 2))
            states = norm(states + change)
        result: Tensor = self.judge(functional.dropout(states, DROPOUT, self.training))
        return result


@dataclass(frozen=True, slots=True)
class _Case:
    ids: NDArray[np.int64]
    looks: NDArray[np.float32]
    targets: NDArray[np.int64]
    words: NDArray[np.int64]
    weight: float


class _Reader:
    """Turns marked texts into what the network learns from, changed a little each time."""

    def __init__(self, rows: Sequence[Marked], table: SubWordTable, given_names: GivenNames) -> None:
        self._table, self._given_names = table, given_names
        self._values: dict[tuple[str, str, int, str], list[str]] = defaultdict(list)
        for row in rows:
            for start, end, entity in row.spans:
                if entity in _SWAPPED:
                    self._values[self._key(row.text[start:end], entity, row.language)].append(row.text[start:end])

    @staticmethod
    def _key(value: str, entity: str, language: str) -> tuple[str, str, int, str]:
        """Values that may stand for each other: in Polish only those that end alike, which mostly is the same case."""
        return entity, language, len(value.split()), value[-1:] if language == "pl" else ""

    def changed(self, row: Marked, chance: random.Random) -> Marked:
        text, spans, shift = row.text, [], 0
        for start, end, entity in row.spans:
            start, end = start + shift, end + shift
            value = text[start:end]
            others = self._values.get(self._key(value, entity, row.language), ())
            if len(others) > 1 and chance.random() < SWAP_SHARE:
                other = chance.choice(others)
                if value.islower():
                    other = other.lower()
                elif value.isupper() and len(value) > 3:
                    other = other.upper()
                text = text[:start] + other + text[end:]
                shift += len(other) - len(value)
                end = start + len(other)
            spans.append((start, end, entity))
        draw = chance.random()
        if draw < LOWER_SHARE:
            text = _kept(text, str.lower)
        elif draw < LOWER_SHARE + UPPER_SHARE:
            text = _kept(text, str.upper)
        if chance.random() < PLAIN_SHARE:
            text = _kept(text.replace("ł", "l").replace("Ł", "L"), _without_accents)
        return Marked(text, tuple(spans), row.language, row.held_out, row.weight)

    def read(self, row: Marked) -> _Case:
        looks = look(row.text, self._table, self._given_names, LONGEST)
        targets = np.zeros(len(looks.ids), np.int64)
        middles = (looks.spans[:, 0] + looks.spans[:, 1]) / 2
        for start, end, entity in row.spans:
            target = _NOTHING_LEARNED if entity == _DOUBTFUL else 1 + ENTITIES.index(entity)
            targets[(middles > start) & (middles < end)] = target
        return _Case(looks.ids, looks.vectors, targets, looks.word_of, row.weight)


def _kept(text: str, change: Callable[[str], str]) -> str:
    return "".join(new if len(new := change(character)) == 1 else character for character in text)


def _without_accents(character: str) -> str:
    return unicodedata.normalize("NFD", character)[:1]


def teach(
    rows: Sequence[Marked],
    calm: Sequence[tuple[Sequence[Marked], int]],
    table: SubWordTable,
    given_names: GivenNames,
    seed: int,
    progress: Progress,
) -> Network:
    """Train on the rows that are not held out, and on some that name nobody; returns the running average of weights.

    `calm` holds collections of those, and how many of each an epoch shows.
    """
    torch.manual_seed(seed)
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    learned = [row for row in rows if not row.held_out]
    reader = _Reader(learned, table, given_names)
    network, average = Network(), Network()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    shown = sum(min(most, len(texts)) for texts, most in calm)
    steps = EPOCHS * -(-(len(learned) + shown) // BATCH)
    at = 0
    for epoch in range(EPOCHS):
        order = [*learned, *(row for texts, most in calm for row in chance.sample(texts, min(most, len(texts))))]
        chance.shuffle(order)
        losses = []
        for batch in batches(order, chance):
            cases = [reader.read(reader.changed(row, chance)) for row in batch]
            at += 1
            rate = PEAK_RATE * min(at / 100, (steps - at) / steps + 0.01)
            for group in optimiser.param_groups:
                group["lr"] = rate
            losses.append(_step(network, table, [case for case in cases if len(case.ids)], optimiser))
            with torch.no_grad():
                for kept, current in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(current, 1 - min(AVERAGE, (1 + at) / (10 + at)))
        progress(f"tagger, epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}")
    average.eval()
    return average


def batches(order: Sequence[Marked], chance: random.Random) -> list[list[Marked]]:
    """Cut texts into batches of like length, in any order."""
    cut = []
    for begin in range(0, len(order), POOL):
        pool = sorted(order[begin : begin + POOL], key=lambda row: len(row.text))
        cut += [pool[at : at + BATCH] for at in range(0, len(pool), BATCH)]
    chance.shuffle(cut)
    return cut


def _step(network: Network, table: SubWordTable, cases: list[_Case], optimiser: Any) -> float:
    network.train()
    longest = max(len(case.ids) for case in cases)
    inputs = torch.zeros(len(cases), longest, WIDTH + LOOKS)
    present = torch.zeros(len(cases), longest, 1)
    targets = torch.full((len(cases), longest), _NOTHING_LEARNED)
    weights = torch.zeros(len(cases), longest)
    for place, case in enumerate(cases):
        length = len(case.ids)
        words = torch.from_numpy(table.embeddings(case.ids))
        hidden = torch.rand(int(case.words.max(initial=-1)) + 2) < HIDDEN_WORDS
        words[hidden[torch.from_numpy(case.words)]] = 0.0
        inputs[place, :length, :WIDTH] = words
        inputs[place, :length, WIDTH:] = torch.from_numpy(case.looks)
        present[place, :length] = 1.0
        targets[place, :length] = torch.from_numpy(case.targets)
        weights[place, :length] = case.weight
    logits = network(inputs, present)
    losses = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none", label_smoothing=0.02)
    loss = (losses * weights).sum() / weights.sum().clamp(min=FULL_BATCH)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def write(network: Network, out: Path) -> None:
    """Write the network as an ONNX graph in 32 bits into a folder."""
    graph = Graph()
    states = graph.node("Gelu", graph.exact("looks", network.enter.weight, network.enter.bias), domain="com.microsoft")
    states = graph.layer_norm(states, network.norm)
    for convolution, norm, dilation in zip(network.convolutions, network.norms, DILATIONS, strict=True):
        change = graph.node("Gelu", graph.convolution(states, convolution, dilation), domain="com.microsoft")
        states = graph.layer_norm(graph.node("Add", states, change), norm)
    graph.named("Softmax", graph.exact(states, network.judge.weight, network.judge.bias), output="entities", axis=-1)
    model = graph.model(
        "vigil-tagger",
        [helper.make_tensor_value_info("looks", TensorProto.FLOAT, ["texts", "length", WIDTH + LOOKS])],
        [helper.make_tensor_value_info("entities", TensorProto.FLOAT, ["texts", "length", 1 + len(ENTITIES)])],
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
