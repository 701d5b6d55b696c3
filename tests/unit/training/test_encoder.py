"""Fine-tuning on a network of a few thousand weights: what is minimised, and that a run can be repeated and resumed."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from app.errors import VigilError  # noqa: E402
from app.training import encoder, network  # noqa: E402
from app.training.corpus import FAMILIES  # noqa: E402
from app.training.encoder import FROZEN_LAYERS, Stage, Trainer, judge, loss_of  # noqa: E402
from app.training.examples import START_ID, WINDOW, Example, Mixture  # noqa: E402
from app.training.network import Network, Output  # noqa: E402

NONE = Mixture(0, 0, 0)
STAGES = (Stage("broad", NONE, epochs=1, steps=7, falls=False), Stage("own", NONE, epochs=2))
LN2 = math.log(2)


class Units:
    """In place of a pool: attacks are written in other sub-words than harmless texts."""

    def epoch(self, mixture: Mixture, seed: str, number: int) -> list[list[Example]]:
        chance = np.random.default_rng([number, len(seed)])
        return [
            [example(attack, chance.integers(5 + 10 * attack, 12 + 10 * attack, 7).tolist(), pair=("f", place))
             for attack in (True, False)]
            for place in range(20)
        ]  # fmt: skip


def example(attack: bool, ids: list[int], **more: Any) -> Example:
    family = FAMILIES.index(FAMILIES[0] if attack else FAMILIES[-1])
    return Example((START_ID, *ids), attack, family, **({"weight": 1.0, "smoothing": 0.0} | more))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 32, "HEADS": 2, "INNER": 64, "LAYERS": FROZEN_LAYERS + 1, "DIMENSIONS": 8}.items():
        monkeypatch.setattr(network, name, value)
    monkeypatch.setattr(encoder, "BATCH_TOKENS", 40)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def trainer(folder: Path, seed: int = 1) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    words = torch.randn(40, 32)
    torch.manual_seed(seed)
    return Trainer(Network(), words, seed, folder, lambda message: None)


def run(trained: Trainer) -> list[str]:
    titles: list[str] = []
    pool: Any = Units()
    trained.run([(stage, pool) for stage in STAGES], titles.append)
    return titles


def weights(trained: Trainer) -> list[Any]:
    return [*trained.network.state_dict().values(), *trained.average.state_dict().values()]


def same(one: Trainer, other: Trainer) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(weights(one), weights(other), strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    ended = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ended.append(trainer(tmp_path / name, seed))
        assert run(ended[-1]) == ["broad, epoch 1 of 1", "own, epoch 1 of 2", "own, epoch 2 of 2"]
    first, again, other = ended
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("steps", [3, 7, 12])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = trainer(tmp_path / "whole")
    run(whole)
    with monkeypatch.context() as patched:
        taken = Trainer._step

        def stopping(self: Trainer, batch: list[Example], at: int) -> float:
            if at > steps:
                raise KeyboardInterrupt
            return taken(self, batch, at)

        patched.setattr(Trainer, "_step", stopping)
        patched.setattr(encoder, "SAVE_EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            run(trainer(tmp_path / "stopped"))
    resumed = trainer(tmp_path / "stopped")
    torch.manual_seed(1234)  # Not what the run began with: its state was kept.
    for parameter in resumed.network.parameters():
        parameter.data.zero_()
    run(resumed)
    assert same(whole, resumed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = trainer(tmp_path)
    run(finished)
    monkeypatch.setattr(Trainer, "_step", lambda *_: pytest.fail("a step was taken"))
    again = trainer(tmp_path)
    run(again)
    assert same(finished, again)


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    run(trainer(tmp_path, 1))
    with pytest.raises(VigilError, match="another seed"):
        run(trainer(tmp_path, 2))


def test_training_tells_attacks_apart_and_leaves_the_first_layers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "WARM_UP", 1)
    monkeypatch.setattr(encoder, "HEAD_RATE", 1e-2)
    trained = trainer(tmp_path)
    before = [weight.clone() for weight in trained.network.layers[:FROZEN_LAYERS].state_dict().values()]
    run(trained)
    logits, families = judge(trained.average, trained._words, [(START_ID, 16, 18, 20), (START_ID, 6, 8, 10)])
    assert logits[0][0] > logits[1][0] + 1
    assert families[0].shape == (1, len(FAMILIES))
    after = trained.network.layers[:FROZEN_LAYERS].state_dict().values()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert not torch.equal(trained.average.layers[-1].widen.weight, trained.network.layers[-1].widen.weight)


def test_windows_are_judged_alike_in_any_company(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    texts = [(START_ID, *([9] * (WINDOW + 40))), (START_ID, 6, 8), (START_ID, *range(5, 30))]
    together, families = judge(trained.average, trained._words, texts)
    assert [len(logits) for logits in together] == [2, 1, 1]
    for text, logits, likeness in zip(texts, together, families, strict=True):
        alone, alone_families = judge(trained.average, trained._words, [text], batch_tokens=1)
        assert logits == pytest.approx(alone[0], abs=1e-5)
        assert likeness == pytest.approx(alone_families[0], abs=1e-4)


def loss(batch: list[Example], logits: list[float], tokens: list[list[float]]) -> float:
    """Return the loss with families that are all alike."""
    blind: Any = SimpleNamespace(family_logits=lambda embeddings: torch.zeros(len(embeddings), len(FAMILIES)))
    longest = max(len(one.ids) for one in batch)
    present = torch.tensor([[float(place < len(one.ids)) for place in range(longest)] for one in batch])
    output = Output(torch.tensor(logits), torch.tensor(tokens), torch.zeros(len(batch), 8))
    return float(loss_of(blind, output, present, batch))


def test_without_any_opinion_every_part_of_the_loss_is_known() -> None:
    family = encoder.FAMILY_LOSS * math.log(len(FAMILIES))
    attack, harmless = example(True, [5, 6]), example(False, [5, 6])
    assert loss([attack], [0.0], [[0.0] * 3]) == pytest.approx(LN2 + family + encoder.PART_LOSS * LN2)
    assert loss([harmless], [0.0], [[0.0] * 3]) == pytest.approx(LN2 + family + encoder.PART_LOSS * 1.3 * LN2)


def test_padding_and_the_start_token_count_for_nothing() -> None:
    batch = [example(False, [5, 6]), example(True, [5, 6, 7, 8])]
    quiet = loss(batch, [0.0, 0.0], [[0.0] * 5, [0.0] * 5])
    assert loss(batch, [0.0, 0.0], [[50.0, 0, 0, 50, 50], [50.0, 0, 0, 0, 0]]) == pytest.approx(quiet)


def test_of_a_planted_text_the_planted_sub_words_should_stand_out() -> None:
    batch = [example(True, [5, 6, 7, 8], planted=(2, 4))]
    right = loss(batch, [9.0], [[0.0, -9, 9, 9, -9]])
    for elsewhere in ([0.0, 9, 9, -9, -9], [0.0, -9, -9, 9, 9]):
        assert right < loss(batch, [9.0], [elsewhere]) - encoder.PART_LOSS * 4


def test_of_another_attack_the_strongest_sub_words_count() -> None:
    batch = [example(True, [5, 6, 7, 8, 9])]
    assert loss(batch, [9.0], [[0.0, 9, 9, 9, -9, -9]]) == pytest.approx(loss(batch, [9.0], [[0.0, 9, 9, 9, 0, 0]]))


def test_a_pair_costs_until_its_attack_is_well_above_its_twin() -> None:
    pair = [example(True, [5], pair=("f", 1)), example(False, [5], pair=("f", 1))]
    strangers = [example(True, [5], pair=("f", 1)), example(False, [5], pair=("g", 1))]
    tokens = [[0.0, 0.0]] * 2
    cost = loss(pair, [0.0, 0.0], tokens) - loss(strangers, [0.0, 0.0], tokens)
    assert cost == pytest.approx(encoder.PAIR_LOSS * math.log1p(math.exp(2)), rel=1e-5)
    assert loss(pair, [4.0, -4.0], tokens) == pytest.approx(loss(strangers, [4.0, -4.0], tokens), abs=2e-3)


def test_doubtful_labels_and_small_weights_teach_less() -> None:
    sure, doubtful = example(True, [5]), example(True, [5], smoothing=0.2)
    assert loss([doubtful], [9.0], [[9.0, 9.0]]) > loss([sure], [9.0], [[9.0, 9.0]])
    light = [example(True, [5]), example(False, [5], weight=0.1)]
    even = [example(True, [5]), example(False, [5])]
    tokens = [[9.0, 9.0]] * 2
    assert loss(light, [9.0, 9.0], tokens) < loss(even, [9.0, 9.0], tokens)
