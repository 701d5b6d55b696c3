"""The vocabulary: what is kept of the pretrained one, and how the tokenizer made for it cuts text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.training import vocabulary
from app.training.base import Pretrained
from app.training.vocabulary import Vocabulary, build, of_tokenizer
from tests.unit.training.support import PIECES, SPECIAL, pretrained


@pytest.fixture
def file(tmp_path: Path) -> Pretrained:
    return pretrained(tmp_path, {})


def pieces_of(built: Vocabulary, file: Pretrained, text: str) -> list[str]:
    return [file.pieces[built.ids[number]] for number in built.tokenizer.encode(text, add_special_tokens=False).ids]


def test_what_canonical_text_cannot_contain_is_left_out(file: Pretrained) -> None:
    built = build(file, ())
    kept = [file.pieces[number] for number in built.ids]
    assert not {"Capital", "▁River", "<mask>"} & set(kept)
    assert set(kept) == set(PIECES) - {"Capital", "▁River", "<mask>"}


def test_the_vocabulary_is_found_again_from_its_tokenizer(file: Pretrained) -> None:
    built = build(file, ())
    assert of_tokenizer(file, built.tokenizer).ids.tolist() == built.ids.tolist()


def test_a_row_stands_for_each_sub_word_and_the_last_for_the_line_break(file: Pretrained) -> None:
    built = build(file, ())
    assert built.tokenizer.get_vocab_size() == len(built.ids)
    assert built.ids[:4].tolist() == [0, 1, 2, 3]
    assert built.ids[-1] == SPECIAL.index("</s>")
    assert (np.diff(built.ids[:-1]) > 0).all()
    assert built.tokenizer.encode("\n", add_special_tokens=False).ids == [len(built.ids) - 1]
    assert pieces_of(built, file, "the river") == ["▁", "t", "h", "e", "▁river"]


def test_a_line_break_cuts_and_the_next_line_begins_like_a_text(file: Pretrained) -> None:
    assert pieces_of(build(file, ()), file, "river mill\nboat") == ["▁river", "▁mill", "</s>", "▁boat"]


def test_a_sign_that_no_sub_word_has_is_unknown(file: Pretrained) -> None:
    assert pieces_of(build(file, ()), file, "river 東") == ["▁river", "▁", "<unk>"]


def test_spans_count_code_points(file: Pretrained) -> None:
    text = "🙂 river\nł mill"
    encoding = build(file, ()).tokenizer.encode(text, add_special_tokens=False)
    covered = [text[start:end].strip(" ") for start, end in encoding.offsets]
    # The blank before a text has the span of its first sign.
    assert covered == ["🙂", "🙂", "river", "\n", "ł", "ł", "mill"]


def test_single_signs_and_what_the_texts_use_stay_when_room_is_short(
    file: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [piece for piece in PIECES if len(piece) > 2 and piece[0] == "▁" and piece.islower()]
    monkeypatch.setattr(vocabulary, "SIZE", len(build(file, ()).ids) - 1 - len(words) + 5)
    used = ("tell", "me", "about", "zanzibar", "please")
    kept = {file.pieces[number] for number in build(file, [" ".join(used)]).ids}
    assert {"a", "z", ".", "ł"} <= kept
    assert {piece for piece in kept if piece in words} == {f"▁{word}" for word in used}
