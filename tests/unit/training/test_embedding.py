"""The semantic branch's training: what it tells apart, what unknown families leave out, and what is written of it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

torch = pytest.importorskip("torch")

from app.detection.evidence import Calibration  # noqa: E402
from app.detection.families import Family  # noqa: E402
from app.detection.features import TextFeatures, extract  # noqa: E402
from app.detection.pooling import Projection  # noqa: E402
from app.detection.semantic import LAYER_ARRAYS, PROJECTION_ARRAYS, Layers, Semantic  # noqa: E402
from app.subwords import WIDTH, SubWordTable, shipped  # noqa: E402
from app.training import embedding  # noqa: E402
from app.training.embedding import EmbeddingModel  # noqa: E402

WORDS = ("harbour", "lights", "ferry", "morning", "baker", "bread", "window", "garden", "letter", "drop", "orders")
ATTACK, HARMLESS = Family.PERSONA, Family.BENIGN_EVERYDAY


@pytest.fixture(scope="module")
def table() -> SubWordTable:
    """Return a table that cuts at blanks, of rows that were drawn."""
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(("<unk>", *WORDS))}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = np.random.default_rng(1).integers(0, 256, (1 + len(WORDS), WIDTH // 32, 18)).astype(np.uint8)
    rows[:, :, :2] = np.array([0.1], "<f2").view(np.uint8)
    return SubWordTable(tokenizer, rows)


def texts(count: int, seed: int, words: int = 12) -> list[TextFeatures]:
    """Return texts of the same words; in every other one, an attack, "drop" stands before "orders", else behind it."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    made = []
    for number in range(count):
        row = [chance.choice(WORDS[:-2]) for _ in range(words)]
        at = chance.randrange(words)
        row[at:at] = ["drop", "orders"] if number % 2 == 0 else ["orders", "drop"]
        made.append(extract(" ".join(row)))
    return made


def fitted(table: SubWordTable, read: Sequence[TextFeatures], seed: int = 4) -> EmbeddingModel:
    attack = np.arange(len(read)) % 2 == 0
    families = [ATTACK if one else HARMLESS for one in attack]
    rarity = embedding.rarity_of(read, table)
    inputs = embedding.inputs_of(read, table)
    weight = np.ones(len(read))
    return embedding.fit(inputs, table, rarity, families, attack.astype(float), weight, seed, lambda message: None)


@pytest.fixture(scope="module")
def model(table: SubWordTable) -> EmbeddingModel:
    return fitted(table, texts(2_000, 3))


def test_the_order_of_words_tells_attacks_from_harmless_texts(table: SubWordTable, model: EmbeddingModel) -> None:
    margins = [each.max() for each in model.logits(embedding.inputs_of(texts(200, 9), table))]
    assert np.mean((np.array(margins) > 0) == (np.arange(200) % 2 == 0)) > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_others(table: SubWordTable) -> None:
    read = texts(60, 3)
    one, same, other = (fitted(table, read, seed).network.state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(values, same[name]) for name, values in one.items())
    assert not torch.equal(one["project.weight"], other["project.weight"])


def test_what_is_written_judges_as_what_was_trained(table: SubWordTable, model: EmbeddingModel) -> None:
    arrays = {name: values.astype(np.float32) for name, values in model.arrays().items()}
    arrays["rarity"] = model.network.rarity.numpy()
    projection = Projection(table, *(arrays[name] for name in PROJECTION_ARRAYS))
    layers = Layers(**{name: arrays[name] for name in LAYER_ARRAYS})
    assert layers.fit
    families = tuple(family for family in embedding.FAMILIES for _ in range(embedding.PROTOTYPES))
    attacks = sum(family.is_attack for family in families)
    calibration = Calibration(peak=1, mean=0, breadth=0, bias=0)
    served = Semantic(
        "test", projection, layers, arrays["prototypes"], families, attacks, embedding.SHARPNESS, calibration, anywhere
    )
    read = [*texts(6, 5), *texts(4, 6, words=150), *texts(2, 7, words=3_000)]
    for features, told in zip(read, model.logits(embedding.inputs_of(read, table)), strict=True):
        assert served.window_logits(features) == pytest.approx(told, abs=0.15)
        assert len(told) == features.windows
    assert read[-1].windows > 100


def anywhere(features: TextFeatures) -> NDArray[np.float32]:
    return np.zeros(features.windows, np.float32)


def test_a_family_that_is_not_known_adds_nothing() -> None:
    families = torch.zeros(1, len(Family))

    def loss(place: int) -> float:
        told = torch.tensor([place])
        return float(embedding._loss(families, torch.tensor([0]), torch.ones(1), torch.ones(1), told))

    assert loss(0) == pytest.approx(loss(-1) + embedding.FAMILY_WEIGHT * np.log(len(Family)))


def test_of_a_text_the_loudest_window_is_learned_from() -> None:
    families = torch.zeros(3, len(Family), requires_grad=True)
    with torch.no_grad():
        families[1, 0] = 2
    owners = torch.tensor([0, 0, 1])
    embedding._loss(families, owners, torch.ones(2), torch.ones(2), torch.tensor([-1, -1])).backward()
    assert families.grad is not None
    assert families.grad.abs().sum(dim=1).gt(0).tolist() == [False, True, True]


def test_frequent_sub_words_count_less() -> None:
    table = shipped()
    rarity = embedding.rarity_of([extract("the the the the cat sat on the mat near the door")], table)
    the, cat, unheard = (int(table.cut(word)[0][-1]) for word in ("the", "cat", "zanzibar"))
    assert rarity[the] < rarity[cat] < rarity[unheard] == 1


def test_texts_without_words_are_left_at_nothing(table: SubWordTable, model: EmbeddingModel) -> None:
    inputs = embedding.inputs_of([extract(""), extract("harbour lights"), extract("")], table)
    assert inputs.lengths.tolist() == [0, 2, 0]
    assert [len(told) for told in model.logits(inputs)] == [0, 1, 0]
