"""The semantic branch's training: slopes that are the loss's, what dropout and unknown families leave out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.detection.families import Family
from app.detection.features import extract
from app.detection.pooling import POOLED
from app.detection.semantic import HIDDEN, Layers
from app.subwords import shipped
from app.training import embedding
from app.training.embedding import EmbeddingModel, Inputs

ATTACK, HARMLESS = Family.PERSONA, Family.BENIGN_EVERYDAY
CLASS = embedding.FAMILIES.index
STEP = 1e-3


def inputs(count: int, seed: int = 2) -> Inputs:
    """Return texts of one window each; attacks, every other one, are higher in some dimensions."""
    chance = np.random.default_rng(seed)
    values = chance.standard_normal((count, POOLED))
    values[::2, :60] += 1
    return Inputs(values.astype(np.float16), values.astype(np.float16), np.arange(count))


def fitted(count: int = 600, families: list[Family | None] | None = None, seed: int = 4) -> EmbeddingModel:
    attack = np.arange(count) % 2 == 0
    told = families or [ATTACK if one else HARMLESS for one in attack]
    return embedding.fit(inputs(count), told, attack.astype(float), np.ones(count), seed, lambda message: None)


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return fitted()


def test_attacks_are_told_from_harmless_texts_that_were_not_learned_from(model: EmbeddingModel) -> None:
    margins = model.logits(inputs(200, seed=9))
    assert np.mean((margins > 0) == (np.arange(200) % 2 == 0)) > 0.9


def test_the_same_seed_gives_the_same_weights(model: EmbeddingModel) -> None:
    again = fitted()
    assert all(np.allclose(values, again.weights[name], atol=1e-5) for name, values in model.weights.items())


def test_what_is_written_embeds_as_what_was_trained(model: EmbeddingModel) -> None:
    seen = inputs(40, seed=5)
    arrays = {name: values.astype(np.float32) for name, values in model.arrays().items()}
    layers = Layers(**{name: arrays[name] for name in Layers.__slots__})
    assert layers.fit
    told = []
    for place in range(40):
        text = seen.texts[place].astype(np.float32)
        unit = layers.embeddings(seen.windows[place : place + 1].astype(np.float32), text)[0]
        likeness = embedding.SHARPNESS * arrays["prototypes"] @ unit
        attacks = np.repeat([family.is_attack for family in embedding.FAMILIES], embedding.PROTOTYPES)
        told.append(np.logaddexp.reduce(likeness[attacks]) - np.logaddexp.reduce(likeness[~attacks]))
    margins = model.logits(seen)
    assert np.corrcoef(told, margins)[0, 1] > 0.98  # Of the weights the nearest of a lower rank are written.
    assert told == pytest.approx(margins, abs=float(margins.std()))


def batch(model: EmbeddingModel, classes: list[int]) -> tuple[float, dict[str, NDArray[np.float32]]]:
    count = len(classes)
    chance = np.random.default_rng(1)
    entering = model.entering(inputs(count), np.arange(count))
    kept = chance.integers(0, 2, (count, HIDDEN)).astype(np.float32)
    target, share = chance.random(count, dtype=np.float32), chance.uniform(0.5, 2, count).astype(np.float32)
    return model.slopes(entering, kept, np.array(classes), target, share)


@pytest.mark.parametrize("name", ["enter", "bias", "embed", "middle", "prototypes"])
def test_slopes_are_those_of_the_loss(model: EmbeddingModel, name: str) -> None:
    classes = [CLASS(ATTACK), CLASS(HARMLESS), -1]
    _, slopes = batch(model, classes)
    values, slope = model.weights[name], slopes[name]
    place = np.unravel_index(int(np.abs(slope).argmax()), slope.shape)
    kept = values[place].copy()
    losses = []
    for step in (STEP, -STEP):
        values[place] = kept + step
        losses.append(batch(model, classes)[0])
    values[place] = kept
    assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(slope[place], rel=0.05)


def test_a_family_that_is_not_known_adds_nothing(model: EmbeddingModel) -> None:
    told, untold = batch(model, [CLASS(ATTACK)])[0], batch(model, [-1])[0]
    assert told > untold


def test_frequent_sub_words_count_less() -> None:
    table = shipped()
    rarity = embedding.rarity_of([extract("the the the the cat sat on the mat near the door")], table)
    the, cat, unheard = (int(table.cut(word)[0][-1]) for word in ("the", "cat", "zanzibar"))
    assert rarity[the] < rarity[cat] < rarity[unheard] == 1


def test_texts_without_words_are_left_at_nothing() -> None:
    table = shipped()
    pooled = embedding.pooled([extract(""), extract("hello there"), extract("")], table, np.ones(len(table.rows)))
    assert pooled.text_of.tolist() == [1]
    assert pooled.windows.shape == (1, POOLED)
    assert not pooled.texts[[0, 2]].any()
    assert pooled.texts[1].any()
