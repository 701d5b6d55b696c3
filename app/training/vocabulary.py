"""Cuts the pretrained vocabulary down to what canonical text can contain, and makes the tokenizer for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from app.training.base import Pretrained

SIZE: Final = 96_000
"""Sub-words kept, of 219,759 that hold no capital letter (canonical text has none)."""
START: Final = "<s>"
LINE: Final = "\n"
"""A token of its own, for planted text often stands on its own line; it starts as the pretrained end of a sentence."""
_SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    ids: NDArray[np.int64]
    """The pretrained id of each row kept; the last row is the line break's; shape (SIZE + 1,)."""
    tokenizer: Tokenizer


def build(pretrained: Pretrained, texts: Iterable[str]) -> Vocabulary:
    """Keep single characters, what occurs in `texts` (canonical), and then the most probable sub-words.

    Which texts are given matters little: they only make sure that nothing they use is lost.
    """
    pieces, scores = pretrained.pieces, pretrained.log_probabilities
    usable = [number for number in range(len(_SPECIAL), len(pieces)) if _is_canonical(pieces[number])]
    whole = _tokenizer(
        [*_SPECIAL, *(pieces[i] for i in usable)], [0.0] * len(_SPECIAL) + [float(scores[i]) for i in usable]
    )
    used = {number for encoding in whole.encode_batch_fast(list(texts)) for number in encoding.ids}
    by_need = sorted(
        range(len(usable)),
        key=lambda place: (
            len(pieces[usable[place]].strip("\u2581")) > 1 and place + len(_SPECIAL) not in used,
            -scores[usable[place]],
        ),
    )
    kept = sorted(usable[place] for place in by_need[: SIZE - len(_SPECIAL)])
    tokenizer = _tokenizer(
        [*_SPECIAL, *(pieces[i] for i in kept)], [0.0] * len(_SPECIAL) + [float(scores[i]) for i in kept]
    )
    return Vocabulary(np.array([0, 1, 2, 3, *kept, 2], np.int64), tokenizer)


def of_tokenizer(pretrained: Pretrained, tokenizer: Tokenizer) -> Vocabulary:
    """Return the vocabulary that `build` made a tokenizer for.

    Raises:
        KeyError: it has a sub-word that the pretrained file has not.
    """
    known = {piece: number for number, piece in enumerate(pretrained.pieces)}
    pieces = (str(tokenizer.id_to_token(row)) for row in range(len(_SPECIAL), tokenizer.get_vocab_size() - 1))
    return Vocabulary(np.array([0, 1, 2, 3, *(known[piece] for piece in pieces), 2], np.int64), tokenizer)


def _is_canonical(piece: str) -> bool:
    return piece == piece.casefold() and "\ufffd" not in piece and piece != "<mask>"


def _tokenizer(pieces: list[str], scores: list[float]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=_SPECIAL.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.add_tokens([AddedToken(LINE, normalized=False)])
    return tokenizer
