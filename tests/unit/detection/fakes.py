"""A stand-in for the encoder's model: it knows a few words, and each speaks for a family by one number of its row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from app.detection.classifier import Classifier
from app.detection.encoder import NOTHING, Encoder
from app.detection.encoder_branches import EncoderBranches
from app.detection.evidence import Calibration
from app.detection.families import Family
from app.detection.features import BUCKETS, extract
from app.detection.pooling import FILTERS, POOLED, PROJECTED, SEEN, Projection, WindowLogits
from app.detection.semantic import DIMENSIONS, HIDDEN, Layers, Semantic
from app.subwords import WIDTH, SubWordTable

FAMILIES = (Family.PERSONA, Family.SECRET_GAME, Family.BENIGN_EVERYDAY)
LOUD = {"zanzibar": 0, "quetzalcoatl": 1}
"""Words of attacks, and the family that each speaks for."""
START_ROW, OTHER_ROW = 0, 1


class Session:
    """Judges by the rows alone: a window is an attack as far as it holds loud words. Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, NDArray[np.float32]]] = []

    def run(self, _: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        self.asked.append(inputs)
        spoken = inputs["words"][:, :, : len(LOUD)]
        loudest = spoken.max(axis=1)
        families = np.concatenate((loudest, np.full((1, 1), 3)), axis=1).astype(np.float32)
        return [loudest.max(axis=1) - 3, spoken.max(axis=2) - 3, families, inputs["words"]]


class Broken:
    """Fails whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("kappa-omega-secret")


def table() -> SubWordTable:
    """Return a table that cuts at blanks; of the rows those of loud words alone hold anything: 7 in one dimension."""
    words = {"<s>": START_ROW, "<unk>": OTHER_ROW} | {word: 2 + place for place, word in enumerate(LOUD)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = np.full((len(words), WIDTH // 32, 18), 0x88, np.uint8)
    rows[:, :, :2] = np.array([1.0], "<f2").view(np.uint8)
    for word, number in LOUD.items():
        rows[words[word], 0, 2 + number] = 0x8F  # The lower four bits: 15 - 8 = 7, times a scale of 1.
    return SubWordTable(tokenizer, rows)


def encoder(session: Any = None) -> Encoder:
    """Return an encoder that cuts at blanks."""
    return Encoder((session or Session(), Broken(), Broken()), table(), (NOTHING, NOTHING))


def semantic(guide: WindowLogits) -> Semantic:
    """Return a light semantic branch: a loud word speaks for its family, the first two of FAMILIES, all else for the
    third."""
    project = np.eye(WIDTH, PROJECTED, dtype=np.float32)  # The first dimensions of a row, as they are.
    by_window, embed = np.zeros((POOLED, HIDDEN), np.float32), np.zeros((HIDDEN, DIMENSIONS), np.float32)
    for number in LOUD.values():
        by_window[2 * SEEN + number, number] = 1  # The highest value of a dimension in the window.
        embed[number, number] = 1
    centre = np.zeros(DIMENSIONS, np.float32)
    centre[len(LOUD)] = 3
    layers = Layers(by_window, np.zeros_like(by_window), np.zeros(HIDDEN, np.float32), embed, centre)
    prototypes = np.eye(len(FAMILIES), DIMENSIONS, dtype=np.float32)
    words = table()
    rarity = np.ones(len(words.rows), np.float32)
    projection = Projection(words, project, np.zeros(FILTERS, np.float32), rarity)
    calibration = Calibration(peak=1, mean=0, breadth=0, bias=0)
    return Semantic("test", projection, layers, prototypes, FAMILIES, len(LOUD), 10.0, calibration, guide)


def branches(session: Any = None) -> EncoderBranches:
    """Return both branches; a loud word makes a probability of about 0.98, any other text one of about 0.05."""
    calibration = Calibration(peak=1, mean=0, breadth=0, bias=0)
    is_attack = np.array([family.is_attack for family in FAMILIES])
    return EncoderBranches(encoder(session), "test", FAMILIES, is_attack, calibration, calibration)


def classifier(**words: int) -> Classifier:
    """Return a light classifier that knows these words alone."""
    weights = np.zeros(BUCKETS, np.int8)
    for word, weight in words.items():
        weights[extract(word).buckets] = weight
    return Classifier("test", weights, 0.1, 0.0, Calibration(peak=1, mean=0, breadth=0, bias=-1))
