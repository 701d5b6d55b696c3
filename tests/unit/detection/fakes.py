"""A stand-in for the encoder's model: it knows a few words, and each speaks for a family by one number of its row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from app.detection.classifier import Classifier
from app.detection.encoder import Encoder
from app.detection.encoder_branches import EncoderBranches
from app.detection.evidence import Calibration
from app.detection.families import Family
from app.detection.features import BUCKETS, extract
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


def encoder(session: Any = None) -> Encoder:
    """Return an encoder that cuts at blanks."""
    words = {"<s>": START_ROW, "<unk>": OTHER_ROW} | {word: 2 + place for place, word in enumerate(LOUD)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    table = np.full((len(words), WIDTH // 32, 18), 0x88, np.uint8)
    table[:, :, :2] = np.array([1.0], "<f2").view(np.uint8)
    for word, number in LOUD.items():
        table[words[word], 0, 2 + number] = 0x8F  # The lower four bits: 15 - 8 = 7, times a scale of 1.
    return Encoder(session or Session(), Broken(), SubWordTable(tokenizer, table), doubtful=(math.inf, math.inf))


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
