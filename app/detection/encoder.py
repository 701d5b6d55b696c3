"""The encoder: a transformer that reads a text's windows once, for the classifier and the semantic branch of full mode.

multilingual-e5-small, fine-tuned (see models/MODEL_CARD.md), as ONNX with 8-bit weights, over the embeddings of
app/subwords.py. It judges up to three times: after the first layers, and, while a window is doubtful, after some more
and after all of them (early exit: Xin et al., "DeeBERT", 2020). Most windows need no more than the first judgement, at
a quarter of the cost. What the light models make of the text is part of that doubt (app/detection/impression.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.inference import open_session
from app.subwords import SubWordTable, table_in

ENCODER_FILES: Final = ("encoder.onnx", "encoder_middle.onnx", "encoder_deep.onnx")
"""The layers up to each judgement; a window that is doubtful after one of them goes on to the next."""
WINDOW: Final = 256
"""Sub-words judged at a time, the start token included."""
STRIDE: Final = 192
"""Sub-words from one window's start to the next one's: neighbours share a quarter."""
DEEP_SUB_WORDS: Final = 768
"""Sub-words of a text that are read beyond the first judgement, at up to three times what the first layers cost: three
whole windows. It bounds the cost of a text that was made to be doubtful everywhere."""
START_ID: Final = 0
Bounds = tuple[float, float]
"""Logits from and up to which a window is doubtful."""
EVERYTHING: Final[Bounds] = (-math.inf, math.inf)
NOTHING: Final[Bounds] = (math.inf, math.inf)
READ_TO_THE_END: Final = (EVERYTHING,) * (len(ENCODER_FILES) - 1)


@dataclass(frozen=True, slots=True)
class SubWords:
    """A text as the encoder reads it."""

    ids: NDArray[np.int64]
    """Shape (sub-words,), without start tokens."""
    spans: NDArray[np.int64]
    """First code point and end (exclusive) of each sub-word in the text; shape (sub-words, 2)."""
    seams: tuple[int, ...] = ()
    """Sub-words before which something of the text was left out."""
    left_out: int = 0
    """About how many sub-words were."""

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
    """Holds nothing that changes but onnxruntime's sessions, which are safe to share among threads."""

    parts: tuple[Any, ...]
    """One for each judgement."""
    table: SubWordTable
    doubtful: tuple[Bounds, ...] = READ_TO_THE_END
    """For each judgement but the last: where it, with what was known before, leaves a window to the next."""

    @classmethod
    def load(cls, models_dir: Path, doubtful: tuple[Bounds, ...] = READ_TO_THE_END) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged.
        """
        parts = tuple(open_session(models_dir / file) for file in ENCODER_FILES)
        return cls(parts, table_in(models_dir), doubtful)

    @property
    def families(self) -> int:
        """How many families it tells apart."""
        return int(self.parts[0].get_outputs()[2].shape[-1])

    def read(self, text: str, stretches: Sequence[tuple[int, int]] | None = None) -> SubWords:
        """Cut a text, which should be canonical, into sub-words, or some stretches of it (code points, end exclusive,
        ascending)."""
        if stretches is None:
            return SubWords(*self.table.cut(text))
        cut = [self.table.cut(text[begin:end]) for begin, end in stretches]
        ids = np.concatenate([part for part, _ in cut])
        spans = np.concatenate([part + begin for (_, part), (begin, _) in zip(cut, stretches, strict=True)])
        ends = np.cumsum([len(part) for part, _ in cut])
        letters = sum(end - begin for begin, end in stretches)
        left_out = round(len(ids) * (len(text) / letters - 1)) if letters else 0
        return SubWords(ids, spans, tuple(sorted({*ends[:-1].tolist()} - {0, len(ids)})), left_out)

    def judge(
        self, sub_words: SubWords, windows: Sequence[tuple[int, int]], priors: Sequence[float] = ()
    ) -> list[WindowReading]:
        """Judge the chosen windows of a text (first sub-word, one past the last; below WINDOW), each by itself.

        `priors`, a logit for each judgement but the last, are what was known of the text before; they decide what is
        doubtful and are no part of the judgement. Of the doubtful ones, those that look most like an attack are read
        on, while DEEP_SUB_WORDS last.
        """
        edges = [
            (low - prior, high - prior)
            for (low, high), prior in zip(self.doubtful, priors or (0.0,) * len(self.doubtful), strict=True)
        ]
        glances = [self._glance(sub_words, window) for window in windows]
        readings = [glance.reading for glance in glances]
        left = DEEP_SUB_WORDS
        for place in sorted(range(len(glances)), key=lambda place: -readings[place].logit):
            begin, end = windows[place]
            if _is_within(readings[place].logit, edges[0]) and end - begin <= left:
                left -= end - begin
                readings[place] = self._study(begin, glances[place], edges[1:])
        return readings

    def _glance(self, sub_words: SubWords, window: tuple[int, int]) -> _Glance:
        begin, end = window
        ids = np.concatenate(([START_ID], sub_words.ids[begin:end]))
        *seen, states = self.parts[0].run(None, {"words": self.table.embeddings(ids)[None]})
        return _Glance(_reading(begin, seen), states)

    def _study(self, begin: int, glance: _Glance, edges: Sequence[Bounds]) -> WindowReading:
        """Read a window on until a judgement leaves no doubt."""
        states = glance.states
        for part, bounds in zip(self.parts[1:-1], edges, strict=True):
            *seen, states = part.run(None, {"states": states})
            reading = _reading(begin, seen)
            if not _is_within(reading.logit, bounds):
                return reading
        return _reading(begin, self.parts[-1].run(None, {"states": states}))


@dataclass(frozen=True, slots=True)
class _Glance:
    """A window after the first layers."""

    reading: WindowReading
    states: NDArray[np.float32]
    """Shape (1, sub-words, WIDTH)."""


def _is_within(logit: float, bounds: Bounds) -> bool:
    return bounds[0] <= logit <= bounds[1]


def _reading(begin: int, seen: Sequence[NDArray[np.float32]]) -> WindowReading:
    logits, token_logits, family_logits = seen
    return WindowReading(begin, float(logits[0]), token_logits[0, 1:], family_logits[0])
