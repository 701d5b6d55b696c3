"""Epochs drawn from the shelf: what they hold, that they can be drawn again, and how they are cut into batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import VigilError
from app.training.shelf import COMPOSED, CUT_WEIGHT, DISGUISED, LONGEST, OWN, WINDOW, Batch, Mixture, Shelf

NONE = Mixture(attacks_per_source=0, benign_per_file=0, composed=0)


def shelf(lengths: list[int], **known: Any) -> Shelf:
    """Return texts of the sub-words 10, 11, ..., harmless own ones where nothing else is told."""
    count = len(lengths)
    usual: dict[str, NDArray[Any]] = {
        "ids": np.arange(10, 10 + sum(lengths), dtype=np.uint32),
        "starts": np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64),
        "lengths": np.array(lengths, np.int64),
        "attack": np.zeros(count, bool),
        "family": np.zeros(count, np.int64),
        "weights": np.ones(count, np.float32),
        "smoothing": np.zeros(count, np.float32),
        "planted": np.full((count, 2), -1, np.int64),
        "reservoirs": np.full(count, OWN, np.int64),
        "pairs": np.full(count, -1, np.int64),
        "disguises": np.full(count, -1, np.int64),
        "held_out": np.zeros(count, bool),
        "known": np.zeros(count, bool),
    }
    return Shelf(**usual | {name: np.array(values) for name, values in known.items()})


def drawn(of: Shelf, mixture: Mixture = NONE, number: int = 0, most: int = 100) -> list[Batch]:
    return list(of.epoch(mixture, "seed", number, most))


def shown(batches: list[Batch]) -> list[int]:
    return [int(text) for batch in batches for text in batch.texts]


def test_an_epoch_shows_every_own_text_once_but_what_is_held_out() -> None:
    of = shelf([5] * 30, held_out=[place == 3 for place in range(30)])
    assert sorted(shown(drawn(of))) == [place for place in range(30) if place != 3]


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    of = shelf([5] * 60)
    first = shown(drawn(of))
    np.random.default_rng().random()
    assert shown(drawn(of)) == first
    assert shown(drawn(of, number=1)) != first
    assert shown(list(of.epoch(NONE, "other", 0, 100))) != first


def test_of_every_source_as_much_is_shown_as_the_mixture_says() -> None:
    reservoirs = [COMPOSED] * 9 + [COMPOSED + 1] * 9 + [COMPOSED + 2] * 9
    of = shelf([5] * 27, reservoirs=reservoirs, attack=[place in range(9, 18) for place in range(27)])
    batches = drawn(of, Mixture(attacks_per_source=3, benign_per_file=4, composed=5))
    assert Counter(reservoirs[place] for place in shown(batches)) == {COMPOSED: 5, COMPOSED + 1: 3, COMPOSED + 2: 4}
    assert len(set(shown(batches))) == 12


def test_of_what_the_encoder_knows_a_share_is_shown_and_pairs_stay_whole() -> None:
    known = [place < 2_000 or place >= 2_400 for place in range(4_400)]
    pairs = [place // 2 if place < 1_000 or 2_300 <= place < 2_400 else -1 for place in range(4_400)]
    disguises = [-1] * 2_400 + list(range(2_000))
    of = shelf([5] * 4_400, known=known, pairs=pairs, disguises=disguises)
    texts = shown(drawn(of, Mixture(0, 0, 0, known=0.3)))
    meant = [place if place < 2_400 else int(of.disguises[place]) for place in texts]
    assert len(set(meant)) == len(meant)
    assert sorted(place for place in meant if place >= 2_000) == list(range(2_000, 2_400))
    assert 0.2 < sum(place < 1_000 for place in meant) / 1_000 < 0.4
    assert 0.2 < sum(1_000 <= place < 2_000 for place in meant) / 1_000 < 0.4
    assert all((place ^ 1) in meant for place in meant if place < 1_000)
    assert sorted(texts) != sorted(shown(drawn(of, Mixture(0, 0, 0, known=0.3), 1)))


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shelf.npz"
    shelf([5] * 3).save(path)
    assert Shelf.load(path).known.tolist() == [False] * 3
    with np.load(path) as stored:
        np.savez(path, **{name: stored[name] for name in stored if name != "known"})
    with pytest.raises(VigilError, match="no known: another version"):
        Shelf.load(path)


def test_some_texts_are_shown_in_one_of_their_disguises_instead() -> None:
    of = shelf([5] * 3_000, disguises=[-1] * 1_000 + [place // 2 for place in range(2_000)])
    texts = shown(drawn(of))
    disguised = [place for place in texts if place >= 1_000]
    assert 0.7 * DISGUISED < len(disguised) / 1_000 < 1.3 * DISGUISED
    meant = [place if place < 1_000 else int(of.disguises[place]) for place in texts]
    assert sorted(meant) == list(range(1_000))
    assert {place % 2 for place in disguised} == {0, 1}


@pytest.mark.parametrize("attack", [True, False])
def test_of_a_long_text_a_piece_is_shown(attack: bool) -> None:
    of = shelf([1_000], attack=[attack])
    batches = [batch for number in range(200) for batch in drawn(of, number=number)]
    limit = (LONGEST if attack else WINDOW) - 1
    assert {int(batch.lengths[0]) for batch in batches} == {limit}
    # Whether the piece holds the attack is not known.
    assert {float(batch.weights[0]) for batch in batches} == {float(np.float32(CUT_WEIGHT)) if attack else 1.0}
    skipped = [int(batch.skipped[0]) for batch in batches]
    assert min(skipped) >= 0
    assert max(skipped) <= 1_000 - limit
    assert max(skipped) - min(skipped) > 0.9 * (1_000 - limit)


def test_a_piece_can_reach_the_end() -> None:
    of = shelf([LONGEST], attack=[True])
    assert {int(batch.skipped[0]) for number in range(40) for batch in drawn(of, number=number)} == {0, 1}


def test_a_batch_holds_no_more_sub_words_than_it_may_and_pairs_stay_together() -> None:
    chance = np.random.default_rng(2)
    lengths = chance.integers(1, 40, 400).tolist()
    of = shelf(lengths, pairs=[place // 2 if place < 200 else -1 for place in range(400)])
    batches = drawn(of, most=200)
    assert sorted(shown(batches)) == list(range(400))
    for batch in batches:
        # The start token counts, and so does padding; a pair alone may be over it.
        assert (batch.lengths.max() + 1) * len(batch.texts) <= 200
        pairs = Counter(int(pair) for pair in of.pairs[batch.texts] if pair >= 0)
        assert set(pairs.values()) <= {2}
    assert len(batches) < 1.6 * (sum(lengths) + 400) / 200


def test_a_shelf_is_read_as_it_was_written(tmp_path: Path) -> None:
    of = shelf([3, 4, 5], attack=[True, False, True])
    of.save(tmp_path / "shelf.npz")
    again = Shelf.load(tmp_path / "shelf.npz")
    for field in fields(Shelf):
        one, other = getattr(of, field.name), getattr(again, field.name)
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()


def test_a_run_that_is_stopped_while_it_writes_leaves_no_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shelf.npz"

    def stopped(file: Path, **arrays: Any) -> None:
        Path(file).write_bytes(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stopped)

    with pytest.raises(KeyboardInterrupt):
        shelf([5] * 3).save(path)

    assert not path.exists()
