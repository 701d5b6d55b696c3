"""Harmless documents that other people wrote, as rows to learn from.

Text that was written to train a detector is livelier than what people paste: a model without real documents blocked one
in six passages of software manuals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from app.detection.families import Family
from app.evaluation.documents import Passage, passages
from app.training.corpus import Row, digest

ENGLISH_FILE: Final = "documents_english"
OTHER_FILE: Final = "documents_other"


def rows(folder: Path) -> list[Row]:
    """Return passages of every collection in a folder (see `app.evaluation.documents`); of one in ten all are held out.

    Raises:
        FileNotFoundError: it holds no collection.
    """
    return list(map(_row, passages(folder)))


def _row(passage: Passage) -> Row:
    return Row(
        text=passage.text,
        attack=False,
        file=ENGLISH_FILE if passage.is_english else OTHER_FILE,
        family=Family.BENIGN_DOCUMENT,
        own=False,
        english=passage.is_english,
        pair=None,
        held_out=digest(f"held out:{passage.collection}") % 10 == 0,
        source=f"documents {passage.collection}",
        kind="document",
    )
