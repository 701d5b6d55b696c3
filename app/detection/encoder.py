"""The encoder: a transformer that reads a text's windows once, for the classifier and the semantic branch of full mode.

Six layers of multilingual-e5-small, fine-tuned (see models/MODEL_CARD.md), as ONNX with 8-bit weights, over the
embeddings of app/subwords.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.inference import open_session
from app.subwords import MODELS_DIR, SubWordTable, shipped

ENCODER_FILE: Final = "encoder.onnx"
WINDOW: Final = 256
"""Sub-words judged at a time, the start token included."""
STRIDE: Final = 192
"""Sub-words from one window's start to the next one's: neighbours share a quarter."""
START_ID: Final = 0


@dataclass(frozen=True, slots=True)
class SubWords:
    """A text as the encoder reads it."""

    ids: NDArray[np.int64]
    """Shape (sub-words,), without start tokens."""
    spans: NDArray[np.int64]
    """First code point and end (exclusive) of each sub-word in the text; shape (sub-words, 2)."""

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The windows that cover all of it: first sub-word and one past the last of each; none without sub-words."""
        length = len(self.ids)
        count = min(length, 1 + max(0, -(-(length - (WINDOW - 1)) // STRIDE)))
        return [(number * STRIDE, min(number * STRIDE + WINDOW - 1, length)) for number in range(count)]


@dataclass(frozen=True, slots=True)
class WindowReading:
    """What the encoder saw in one window."""

    start: int
    """First sub-word of the window in the text."""
    logit: float
    """Of an attack, before calibration."""
    token_logits: NDArray[np.float32]
    """Of being part of an attack, for each sub-word of the window; shape (sub-words,)."""
    family_logits: NDArray[np.float32]
    """How near the window's embedding is to each family; shape (families,)."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Holds nothing that changes but onnxruntime's session, which is safe to share among threads."""

    session: Any
    table: SubWordTable

    @classmethod
    def load(cls, models_dir: Path) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged.
        """
        table = shipped() if models_dir == MODELS_DIR else SubWordTable.load(models_dir)
        return cls(open_session(models_dir / ENCODER_FILE), table)

    @property
    def families(self) -> int:
        """How many families it tells apart."""
        return int(self.session.get_outputs()[-1].shape[-1])

    def read(self, text: str) -> SubWords:
        """Cut a text, which should be canonical, into sub-words."""
        return SubWords(*self.table.cut(text))

    def judge(self, sub_words: SubWords, windows: Sequence[tuple[int, int]]) -> list[WindowReading]:
        """Judge the chosen windows of a text (first sub-word, one past the last; below WINDOW), each by itself."""
        readings = []
        for begin, end in windows:
            ids = np.concatenate(([START_ID], sub_words.ids[begin:end]))
            logits, token_logits, family_logits = self.session.run(
                None, {"words": self.table.embeddings(ids)[None], "present": np.ones((1, len(ids)), np.float32)}
            )
            readings.append(WindowReading(begin, float(logits[0]), token_logits[0, 1:], family_logits[0]))
        return readings
