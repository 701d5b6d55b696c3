"""The tagger: what it reads of a text, how words become values, and the model that ships."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import ModelUnavailable
from app.pii import tagger
from app.pii.config import read_names
from app.pii.given_names import GivenNames
from app.pii.nlp import Tags
from app.pii.reading import Reading
from app.pii.recognizers.known_names import KnownNameRecognizer
from app.pii.recognizers.tagged import LEAST_SCORE, TaggedRecognizer, trimmed
from app.pii.tagger import (
    AROUND,
    DOUBT,
    ENTITIES,
    LOOKS,
    MODEL_FILES,
    MODELS_DIR,
    SUB_WORDS,
    WHOLE,
    Tagged,
    Tagger,
    Tagging,
    look,
)
from app.settings import default_config_dir
from app.subwords import shipped

NAMES = GivenNames(read_names(default_config_dir()))


class Session:
    """Marks by the words' own rows: what `marks` says of a word, read from the sub-words that it is asked about.

    The first layer's is as sure as `surety` lets it be, and what is left to the other layers is the rows.
    """

    def __init__(self, marks: dict[str, tuple[str, float]], surety: float = 1.0) -> None:
        table = shipped()
        self.lengths: list[int] = []
        self.judged: list[int] = []
        self._surety = surety
        self._rows = {
            table.embeddings(np.array([number]))[0].tobytes(): mark
            for word, mark in marks.items()
            for number in table.cut(word)[0].tolist()
        }

    def run(self, _: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        is_first = "words" in inputs
        rows = inputs["words"][0] if is_first else inputs["states"][0, 1:]
        self.lengths.append(len(rows))
        if not is_first:
            rows = rows[inputs["asked"].astype(int) - 1]
            self.judged.append(len(rows))
        assert inputs["looks"].shape == (1, len(rows), LOOKS)
        result = np.zeros((1, len(rows), 1 + len(ENTITIES)), np.float32)
        for place, row in enumerate(rows):
            entity, probability = self._rows.get(row.tobytes(), ("PERSON", 0.0))
            result[0, place, 0] = 1 - self._surety * probability
            result[0, place, 1 + ENTITIES.index(entity)] = self._surety * probability
        return [result, np.concatenate((rows[:1], rows))[None]] if is_first else [result]


def tagger_of(marks: dict[str, tuple[str, float]]) -> Tagger:
    """One whose first layer has no more than a suspicion."""
    return Tagger(Session(marks, surety=0.1), Session(marks), shipped(), NAMES)


def found(text: str, marks: dict[str, tuple[str, float]], budget: int = 1_000) -> list[tuple[str, str]]:
    return [(each.entity, text[each.start : each.end]) for each in tagger_of(marks).tag(text, budget).values]


PERSON, PLACE, STREET = ("PERSON", 0.9), ("LOCATION", 0.9), ("STREET_ADDRESS", 0.9)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("call zanzibar quetzal now", ["zanzibar quetzal"]),
        ("call Zanzibar-Quetzal now", ["Zanzibar-Quetzal"]),
        ("call Z. Quetzal", ["Quetzal"]),
        ("call Dr. Zanzibar", ["Zanzibar"]),
        ("met Zanzibar. Quetzal came", ["Zanzibar", "Quetzal"]),
        ("Zanzibar/Quetzal", ["Zanzibar", "Quetzal"]),
        ("zanzibar & quetzal", ["zanzibar", "quetzal"]),
        ("zanzibar, quetzal", ["zanzibar", "quetzal"]),
        ("zanzibar and quetzal", ["zanzibar", "quetzal"]),
        ("zanzibar\n\nquetzal", ["zanzibar", "quetzal"]),
        ("nothing here", []),
        ("", []),
        ("  \n ", []),
    ],
)
def test_words_side_by_side_are_one_value(text: str, values: list[str]) -> None:
    assert found(text, {"zanzibar": PERSON, "quetzal": PERSON}) == [("PERSON", value) for value in values]


def test_a_comma_stands_inside_addresses_alone() -> None:
    text = "zanzibar 7, quetzal"
    assert found(text, {"zanzibar": STREET, "7": STREET, "quetzal": STREET}) == [("STREET_ADDRESS", text)]


def test_neighbours_of_different_kinds_stay_apart() -> None:
    assert found("zanzibar quetzal", {"zanzibar": PERSON, "quetzal": PLACE}) == [
        ("PERSON", "zanzibar"),
        ("LOCATION", "quetzal"),
    ]


def test_a_value_has_the_mean_probability_of_its_words() -> None:
    marks = {"zanzibar": ("PERSON", 0.9), "quetzal": ("PERSON", 0.5)}
    (tagged,) = tagger_of(marks).tag("zanzibar quetzal", 100).values
    assert tagged.score == pytest.approx(0.7)


def test_improbable_words_are_left_out() -> None:
    assert found("zanzibar quetzal", {"zanzibar": ("PERSON", 0.2), "quetzal": PERSON}) == [("PERSON", "quetzal")]


def test_offsets_are_code_points_of_the_text_as_it_was() -> None:
    text = "🙂 İİ ẞ żółw ZANZIBAR\n𝔵 quetzal"
    assert found(text, {"zanzibar": PERSON, "quetzal": PERSON}) == [("PERSON", "ZANZIBAR"), ("PERSON", "quetzal")]


def test_nothing_is_read_beyond_the_budget() -> None:
    assert found("calm " * 300 + "zanzibar", {"zanzibar": PERSON}, budget=200) == []
    assert found("calm " * 300 + "zanzibar", {"zanzibar": PERSON}, budget=2_000) == [("PERSON", "zanzibar")]


@pytest.mark.parametrize(
    ("before", "after", "read_on"),
    [(30, 40, 2 * AROUND + 1), (3, 40, 3 + 1 + AROUND), (40, 3, AROUND + 1 + 3), (0, 0, 1)],
)
def test_the_other_layers_read_what_the_first_is_not_sure_of_and_what_stands_around(
    before: int, after: int, read_on: int
) -> None:
    text = "calm " * before + "zebra" + " calm" * after
    assert len(shipped().ids("zebra")) == len(shipped().ids("calm")) == 1
    first, others = Session({"zebra": ("PERSON", 2 * DOUBT), "calm": ("PERSON", DOUBT / 2)}), Session({"zebra": PLACE})
    assert [text[each.start : each.end] for each in Tagger(first, others, shipped(), NAMES).tag(text, 100).values] == [
        "zebra"
    ]
    assert first.lengths == [before + 1 + after]
    assert others.lengths == [read_on]
    assert others.judged == [1]


def test_what_stands_around_is_read_on_but_not_judged_again() -> None:
    text = "calm zebra calm"
    first, others = Session({"zebra": ("PERSON", 2 * DOUBT), "calm": ("PERSON", DOUBT / 2)}), Session({"calm": PERSON})
    assert Tagger(first, others, shipped(), NAMES).tag(text, 100).values == []
    assert (others.lengths, others.judged) == ([3], [1])


def test_where_the_first_layer_has_no_doubt_the_others_read_nothing() -> None:
    first, others = Session({"zebra": ("PERSON", DOUBT / 2)}), Session({"zebra": PERSON})
    assert Tagger(first, others, shipped(), NAMES).tag("so zebra came", 100).values == []
    assert others.lengths == []


def test_long_texts_are_read_in_parts_that_join_without_a_seam() -> None:
    session = Session({"zanzibar": PERSON, "quetzal": PERSON})
    before = "calm " * (SUB_WORDS - len(shipped().ids("zanzibar")) - 1)
    text = before + "zanzibar quetzal " + "calm " * 200
    values = Tagger(session, session, shipped(), NAMES).tag(text, 1_000).values
    assert [text[each.start : each.end] for each in values] == ["zanzibar quetzal"]
    assert len(session.lengths) > 2
    assert max(session.lengths) <= WHOLE + 8


def test_a_text_that_is_a_little_longer_than_a_pass_is_read_in_one() -> None:
    session = Session({})
    Tagger(session, session, shipped(), NAMES).tag("calm " * WHOLE, WHOLE)
    assert session.lengths == [WHOLE]


@pytest.mark.parametrize(
    ("between", "ends"),
    [
        (". ", True),
        ("\n", True),
        ("! ", True),
        (" ", False),
        (", ", False),
        (".", False),
    ],
)
def test_a_pass_ends_with_a_sentence_where_it_can(between: str, ends: bool) -> None:
    session = Session({})
    Tagger(session, session, shipped(), NAMES).tag("calm " * 79 + f"calm{between}" + "calm " * 150, 1_000)
    assert (session.lengths[0] in (80, 81)) is ends


def test_sentences_begin_behind_marks_and_line_ends_but_not_behind_abbreviations() -> None:
    text = "Yes! Write to Dr. Quetzal at ul. Lipowa by 12.05. today. Then\nstop: example.com"
    looks = look(text, shipped(), NAMES, 1_000)
    begun = [text[looks.spans[place, 0] :].split()[0] for place in looks.sentences()]
    assert begun == ["Yes!", "Then", "stop:"]
    assert not len(look("?!", shipped(), NAMES, 10).sentences())


def looks_of(text: str, word: str) -> list[int]:
    looks = look(text, shipped(), NAMES, 1_000)
    start = text.index(word)
    place = int(np.flatnonzero(looks.spans[:, 0] == start)[0])
    return np.flatnonzero(looks.vectors[place]).tolist()


def test_a_look_tells_case_known_names_and_what_stands_before() -> None:
    plain = looks_of("so anna came", "anna")
    assert plain != looks_of("so Anna came", "Anna")
    assert looks_of("so Anna came", "Anna") != looks_of("so Zzyx came", "Zzyx")
    assert looks_of("name: Anna", "Anna") != looks_of("name, Anna", "Anna")
    assert looks_of("a name\nAnna x", "Anna") != looks_of("a name Anna x", "Anna")
    assert looks_of("CALL ANNA NOW", "ANNA") != looks_of("so ANNA came", "ANNA")


def test_every_sub_word_has_one_look_of_each_kind() -> None:
    looks = look("Anna (b. 1990) wrote 3 e-mails to x_y@example.com;\n\nŻółw 東京 🙂", shipped(), NAMES, 1_000)
    assert looks.vectors.shape == (len(looks.ids), LOOKS)
    outside = looks.word_of < 0
    assert set(looks.vectors[outside].sum(axis=1).tolist()) == {3.0}
    assert set(looks.vectors[~outside].sum(axis=1).tolist()) == {5.0}


@pytest.mark.parametrize("file", MODEL_FILES)
@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_missing_or_damaged_model_is_refused(tmp_path: Path, content: bytes | None, file: str) -> None:
    for each in MODEL_FILES:
        shutil.copy(MODELS_DIR / each, tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelUnavailable, match=re.escape(file)):
        Tagger.load(shipped(), NAMES, tmp_path)


def test_a_model_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagger, "ENTITIES", ENTITIES[:-1])
    with pytest.raises(ModelUnavailable, match="does not fit"):
        Tagger.load(shipped(), NAMES, MODELS_DIR)


@pytest.mark.parametrize(
    ("text", "entity", "value"),
    [
        ("my flatmate oluwaseun is away, can you water his plants?", "PERSON", "oluwaseun"),
        ("Spotkałem się z Wacławem Bździągwą w sprawie działki.", "PERSON", "Wacławem Bździągwą"),
        ("I live in Knaresborough with my two kids.", "LOCATION", "Knaresborough"),
        ("Mieszkam w Hrubieszowie od dziesięciu lat.", "LOCATION", "Hrubieszowie"),
    ],
)
def test_the_shipped_model_finds_what_no_list_holds(text: str, entity: str, value: str) -> None:
    tagged = Tagger.load(shipped(), NAMES).tag(text, 1_000).values
    assert (entity, value) in [(each.entity, text[each.start : each.end]) for each in tagged if each.score > 0.5]


def artifacts(*tagged: Tagged, read_to: int = 100) -> Tags:
    engine: Any = None
    return Tags(Tagging(list(tagged), read_to), engine, "en")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so Anna came", []),
        ("so Mrs Anna came", ["Anna"]),
        ("name: Anna", ["Anna"]),
        ("Anna and Marta", ["Marta"]),
    ],
)
def test_a_known_name_alone_needs_the_taggers_consent(text: str, found: list[str]) -> None:
    marta = text.find("Marta")
    tagged = [Tagged("PERSON", marta, marta + 5, 0.3)] if marta >= 0 else [Tagged("LOCATION", 0, len(text), 0.9)]
    results = KnownNameRecognizer("en", NAMES).analyze(text, [], artifacts(*tagged))
    assert [text[each.start : each.end] for each in results] == found


def test_where_the_tagger_has_not_read_known_names_count() -> None:
    text = "so Anna came"
    for tags in (artifacts(read_to=0), artifacts(read_to=6), None):
        assert len(KnownNameRecognizer("en", NAMES).analyze(text, [], tags)) == 1


def test_how_far_was_read_is_told() -> None:
    served = tagger_of({})
    assert served.tag("calm day", 100).read_to == len("calm day")
    assert served.tag("calm " * 50, 10).read_to < 60
    assert served.tag("calm", 0).read_to == 0
    assert served.tag(" ", 10).read_to == 1


def test_a_recognizer_takes_its_own_kind_from_its_probability_on() -> None:
    recognizer = TaggedRecognizer("en", "LOCATION", 0.6)
    results = recognizer.analyze(
        "abcdefgh",
        [],
        artifacts(
            Tagged("LOCATION", 0, 1, 0.59),
            Tagged("LOCATION", 2, 3, 0.6),
            Tagged("LOCATION", 4, 5, 1.0),
            Tagged("PERSON", 6, 7, 0.9),
        ),
    )
    assert [(each.entity_type, each.start, round(each.score, 3)) for each in results] == [
        ("LOCATION", 2, LEAST_SCORE),
        ("LOCATION", 4, 1.0),
    ]
    assert recognizer.analyze("abc", []) == []


@pytest.mark.parametrize(
    ("entity", "text", "value"),
    [
        ("PERSON", "uncle Zenon", "Zenon"),
        ("PERSON", "from Mr Zenon Box", "Zenon"),
        ("PERSON", "Madam", None),
        ("PERSON", "Kujawsko-Pomorskie", None),
        ("PERSON", "Zenon Street", None),
        ("STREET_ADDRESS", "at 12a Tite Street in", "12a Tite Street"),
        ("STREET_ADDRESS", "zam. ul. Reymonta 14", "ul. Reymonta 14"),
        ("STREET_ADDRESS", "Tite Street", None),
        ("STREET_ADDRESS", "87-100", None),
        ("STREET_ADDRESS", "AZ 85705", None),
        ("STREET_ADDRESS", "Main Street 4, AZ 85705", "Main Street 4, AZ 85705"),
        ("STREET_ADDRESS", "87-100 Torun", "87-100 Torun"),
        ("LOCATION", "in Leeds", "Leeds"),
        ("DATE_OF_BIRTH", "in May", None),
        ("USERNAME", "@zenon_", "@zenon_"),
        ("USERNAME", "zenon@", "zenon@"),
        ("USERNAME", "44051401359", None),
        ("USERNAME", "root", None),
        ("PASSWORD", "Hasło", None),
        ("PASSWORD", "root", "root"),
        ("PASSWORD", "!zenon#7!", "!zenon#7!"),
        ("DATE_TIME", "on Friday at", "Friday"),
        ("DATE_OF_BIRTH", "on 12 February 1809", None),
        ("PASSWORD", "ilove-Mangos!7 please", "ilove-Mangos!7"),
        ("PASSWORD", "please", "please"),
        ("LOCATION", "Tamil", None),
        ("LOCATION", "Tamil Nadu", "Tamil Nadu"),
        ("PERSON", "Wietnamką", None),
        ("PERSON", "Syrian Christian", None),
        ("PERSON", "Welsh", "Welsh"),
        ("PERSON", "Niemcem", "Niemcem"),
        ("PERSON", "Łotysz", "Łotysz"),
    ],
)
def test_what_does_not_belong_to_a_value_is_taken_off(entity: str, text: str, value: str | None) -> None:
    end = len(text) - len(" Street") if text == "Zenon Street" else len(text.rstrip("!_"))
    span = trimmed(Reading(text), Tagged(entity, len(text) - len(text.lstrip("!@")), end, 0.9))
    assert (text[slice(*span)] if span is not None else None) == value


def test_a_value_ends_with_its_cell_of_a_table() -> None:
    text = "street,zip\n9 Elm,89501\n"
    assert trimmed(Reading(text), Tagged("STREET_ADDRESS", 11, 22, 0.9)) == (11, 16)
    assert trimmed(Reading("9 Elm, 89501"), Tagged("STREET_ADDRESS", 0, 12, 0.9)) == (0, 12)


def test_a_host_does_not_belong_to_a_user_name() -> None:
    assert trimmed(Reading("ssh zenon@nas"), Tagged("USERNAME", 4, 9, 0.9)) == (4, 9)
    assert trimmed(Reading("ssh zenon@nas"), Tagged("PASSWORD", 4, 9, 0.9)) == (4, 10)
    assert trimmed(Reading("ssh zenon@nas"), Tagged("USERNAME", 10, 13, 0.9)) is None
    assert trimmed(Reading("ask @zenon"), Tagged("USERNAME", 5, 10, 0.9)) == (4, 10)


@pytest.mark.parametrize(
    ("text", "part", "whole"),
    [
        ("seen at 22:40 by me", "22", "22:40"),
        ("Pobyt: od 02.10.2023 do", "2023", "02.10.2023"),
        ("when: 2006-04-07 09:00:27.", "07 09", "2006-04-07 09:00:27"),
        ("kulki 15:00–17:00;", "15", "15:00–17:00"),
        ("ref. FA/2019/0417", "2019", None),
        ("in June", "June", "June"),
        ("which bin goes out this week", "this", None),
        ("do tej pory", "tej", None),
        ("which bin goes out this week", "this week", "this week"),
    ],
)
def test_a_moment_is_taken_whole_or_not_at_all(text: str, part: str, whole: str | None) -> None:
    start = text.index(part)
    span = trimmed(Reading(text), Tagged("DATE_TIME", start, start + len(part), 0.9))
    assert (text[slice(*span)] if span is not None else None) == whole


@pytest.mark.parametrize(
    ("text", "score", "found"),
    [
        ("the demo at 10 on Thursday", 0.6, False),
        ("the demo at 10 on Thursday", 0.9, True),
        ("her visit at 10 on Thursday", 0.6, True),
        ("her visit at 10 on Thursday", 0.5, False),
        ("Sklep czynny w Thursday", 0.6, False),
    ],
)
def test_a_date_among_words_of_business_must_be_more_probable(text: str, score: float, found: bool) -> None:
    start = text.index("Thursday")
    results = TaggedRecognizer("en", "DATE_TIME", 0.55).analyze(
        text, [], artifacts(Tagged("DATE_TIME", start, start + 8, score))
    )
    assert bool(results) is found


def test_the_highest_probability_of_a_person_is_told_for_any_stretch() -> None:
    tagging = Tagging([], 11, [(0, 3), (4, 7), (8, 11)], [0.1, 0.5, 0.2])
    stretches = [(0, 3), (0, 7), (5, 6), (8, 11), (3, 4), (20, 22)]
    assert [tagging.person_in(*each) for each in stretches] == [0.1, 0.5, 0.5, 0.2, 0.0, 0.0]
    assert Tagging([], 0).person_in(0, 5) == 0.0


@pytest.mark.parametrize(("probability", "found"), [(0.01, False), (0.02, True)])
def test_a_given_name_with_a_surname_is_nobodys_when_the_tagger_is_sure(probability: float, found: bool) -> None:
    engine: Any = None
    tags = Tags(Tagging([], 100, [(0, 4), (5, 10)], [probability, 0.01]), engine, "en")
    assert bool(KnownNameRecognizer("en", NAMES).analyze("Rosa Parks refused", [], tags)) is found
