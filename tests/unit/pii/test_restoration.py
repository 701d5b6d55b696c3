"""What was redacted comes back, however a model wrote the placeholder, and nothing else does."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from string import ascii_letters, digits
from time import thread_time
from uuid import UUID

import pytest

from app.errors import PayloadTooLarge, RestoreMapRefused
from app.pii.engine import PiiEngine
from app.pii.placeholders import mentions, written
from app.pii.redaction import Placeholder, Redaction, Redactor, Span, resolve_overlaps, strictest
from app.pii.restoration import restore
from app.pii.sealing import MapSealer, RestoreMap, process_key
from app.redaction import RedactionTable

ID, OTHER_ID = UUID(int=1), UUID(int=2)
KEY, OTHER_KEY = b"kappa-omega-secret-of-32-characters", b"another-secret-that-has-32-characters"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN = Placeholder("PERSON", 1, ("Ann",))
MAIL = Placeholder("EMAIL_ADDRESS", 2, ("ann@example.com",))
SEALER = MapSealer((KEY,), HOUR, lambda: NOON)
TENANT = "acme"
REDACTION = Redaction("<PERSON_1> <EMAIL_ADDRESS_2>", (ANN, MAIL))


def restored(text: str, *, backslash_is_text: bool = False) -> str:
    return restore(text, [ANN, MAIL], backslash_is_text=backslash_is_text).text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<PERSON_1>", "Ann"),
        ("<EMAIL_ADDRESS_2>", "ann@example.com"),
        ("<person_1>, <Person_1>", "Ann, Ann"),
        ("<email address 2> <Email-Address-2> <EMAILADDRESS2>", "ann@example.com ann@example.com ann@example.com"),
        ("< PERSON_1 > <PERSON 1> <person_ 1>", "Ann Ann Ann"),
        ("[PERSON_1] [person 1]", "Ann Ann"),
        ("PERSON_1 person_1 PERSON 1 PERSON-1", "Ann Ann Ann Ann"),
        ("<PERSON_1 and PERSON_1>", "Ann and Ann"),
        (r"\<PERSON\_1\> <PERSON\_1> \<PERSON_1\> \<PERSON_1> PERSON\_1 \[PERSON\_1\]", "Ann Ann Ann Ann Ann Ann"),
        ("&lt;PERSON_1&gt;", "Ann"),
        ("**<PERSON_1>** **PERSON_1** _<PERSON_1>_ _PERSON_1_ `PERSON_1`", "**Ann** **Ann** _Ann_ _Ann_ `Ann`"),
        ("<PERSON_1>'s <PERSON_1>owi PERSON_1's PERSON_1owi PERSON_1-owi", "Ann's Annowi Ann's Annowi Ann-owi"),
        ('(PERSON_1) "PERSON_1" PERSON_1. PERSON_1, PERSON_1: PERSON_1/', '(Ann) "Ann" Ann. Ann, Ann: Ann/'),
        ("[PERSON_1](mailto:EMAIL_ADDRESS_2)", "[Ann](mailto:ann@example.com)"),
        ("[<PERSON_1>](mailto:<EMAIL_ADDRESS_2>)", "[Ann](mailto:ann@example.com)"),
        ("<PERSON_1><EMAIL_ADDRESS_2>PERSON_1", "Annann@example.comAnn"),
        ("<<PERSON_1>>", "<Ann>"),
        ("<PERSON_01>", "Ann"),
    ],
)  # fmt: skip
def test_a_placeholder_is_known_however_it_is_written(answer: str, expected: str) -> None:
    assert restored(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "<PERSON_2> <PERSON_11> <PERSON_10> <EMAIL_ADDRESS_1> PERSON_12",
        "<PERSONS_1> <A_PERSON_1> MY_PERSON_1 SALESPERSON_1 XPERSON_1 PERSON_1_2 PERSON_1_x PERSON\\_1\\_2",
        r"MY\_PERSON\_1 MY\\_PERSON_1 \<A\_PERSON\_1\>",
        "the first person 1 of 2, Person 1: hello",
        "PERſON_1 <EMAİL_ADDRESS_2> <emaıl_address_2> <PERSON_١>",
        "<PERSON_> <PERSON> PERSON_ PERSON_A <_1> <PERSON:1> <PERSON:0f1e2d3c4b5a>",
        "<PERSON___1> <PERSON     1> <PERSON_1000000001>",
    ],
)
def test_what_is_no_known_placeholder_stays(answer: str) -> None:
    assert restored(answer) == answer


def test_a_backslash_of_the_text_is_told_from_one_of_a_model() -> None:
    answer = r"C:\<PERSON_1> \<PERSON\_1\>"
    assert restored(answer, backslash_is_text=True) == r"C:\Ann Ann"
    redaction = Redactor().redact(r"C:\Users\Ann", [Span("PERSON", 9, 12, 0.9)])
    assert redaction.backslash_is_text
    assert not Redactor().redact(r"C:\Users Ann", [Span("PERSON", 9, 12, 0.9)]).backslash_is_text


def test_what_was_restored_and_what_never_appeared_is_told() -> None:
    restoration = restore("PERSON_1 and <PERSON_1> and <PERSON_7>", [ANN, MAIL])
    assert (restoration.restored, restoration.missing) == (2, ["<EMAIL_ADDRESS_2>"])
    assert "Ann" not in repr(restoration)


def test_a_value_that_looks_like_a_placeholder_is_not_read_again() -> None:
    placeholders = [Placeholder("PERSON", 1, ("<PERSON_2>",)), Placeholder("PERSON", 2, ("Bob",))]
    assert restore("<PERSON_1> <PERSON_2>", placeholders).text == "<PERSON_2> Bob"


def test_a_long_value_that_is_asked_for_often_is_refused() -> None:
    long = [Placeholder("URL", 1, ("x" * 50_000,))]
    assert len(restore("<URL_1>" * 20, long).text) == 1_000_000
    with pytest.raises(PayloadTooLarge):
        restore("<URL_1>" * 21, long)


def test_spellings_come_back_in_their_places_as_long_as_there_are_as_many() -> None:
    text = "Ann, ANN and ann"
    redaction = Redactor().redact(text, [Span("PERSON", 0, 3, 1), Span("PERSON", 5, 8, 1), Span("PERSON", 13, 16, 1)])
    assert redaction.text == "<PERSON_1>, <PERSON_1> and <PERSON_1>"
    assert restore(redaction.text, redaction.placeholders).text == text
    assert restore("PERSON_1, [PERSON_1] i <PERSON_1>", redaction.placeholders).text == "Ann, ANN i ann"
    assert restore("<PERSON_1> and <PERSON_1>", redaction.placeholders).text == "Ann and Ann"


def test_known_values_keep_their_placeholders_and_new_ones_take_none_of_their_numbers() -> None:
    known = (Placeholder("PERSON", 2, ("Ann",)), Placeholder("PERSON", 1, ("Bob",)))
    text = "PERSON_1 met Eve and ANN at eve@example.com, not <PERSON_3>"
    spans = [Span("PERSON", 13, 16, 1), Span("PERSON", 21, 24, 1), Span("EMAIL_ADDRESS", 28, 43, 1)]
    redactor = Redactor(known=known)
    assert (
        redactor.redact(text, spans).text
        == "PERSON_1 met <PERSON_4> and <PERSON_2> at <EMAIL_ADDRESS_1>, not <PERSON_3>"
    )
    assert redactor.keeping_nothing().redact(text, spans).text == redactor.redact(text, spans).text
    assert "Ann" not in repr(redactor)


def test_a_map_fills_the_next_text_of_the_conversation_with_its_own_values_and_the_next_map_with_both() -> None:
    first = SEALER.open(SEALER.seal(ID, REDACTION, TENANT) or "", TENANT)
    text = "<PERSON_1>, ANN and eve@example.com; ann@example.com"
    places = {"ANN": "PERSON", "eve@example.com": "EMAIL_ADDRESS", "ann@example.com": "EMAIL_ADDRESS"}
    spans = [Span(entity, text.index(value), text.index(value) + len(value), 1) for value, entity in places.items()]
    redaction = Redactor(known=first.placeholders).redact(text, spans)
    assert redaction.text == "<PERSON_1>, <PERSON_1> and <EMAIL_ADDRESS_1>; <EMAIL_ADDRESS_2>"
    then = SEALER.open(SEALER.seal(OTHER_ID, redaction, TENANT, first) or "", TENANT)
    assert restored(redaction.text) == "Ann, Ann and <EMAIL_ADDRESS_1>; ann@example.com"
    whole = restore(redaction.text, then.placeholders, backslash_is_text=then.backslash_is_text)
    assert whole.text == "Ann, Ann and eve@example.com; ann@example.com"
    assert (then.request_id, whole.missing) == (OTHER_ID, [])


@pytest.mark.parametrize("backslash_is_text", [True, False])
def test_a_map_of_a_conversation_holds_what_no_later_text_has(backslash_is_text: bool) -> None:
    first = RestoreMap(ID, (ANN, MAIL), backslash_is_text, int((NOON + HOUR).timestamp()))
    then = SEALER.open(SEALER.seal(OTHER_ID, Redaction("hello"), TENANT, first) or "", TENANT)
    assert then == replace(first, request_id=OTHER_ID)


def test_values_are_not_kept_longer_by_being_sealed_again() -> None:
    first = SEALER.open(SEALER.seal(ID, REDACTION, TENANT) or "", TENANT)
    later = MapSealer((KEY,), HOUR, lambda: NOON + HOUR / 2).seal(OTHER_ID, REDACTION, TENANT, first) or ""
    MapSealer((KEY,), HOUR, lambda: NOON + HOUR - timedelta(seconds=1)).open(later, TENANT)
    with pytest.raises(RestoreMapRefused):
        MapSealer((KEY,), HOUR, lambda: NOON + HOUR).open(later, TENANT)


def test_a_map_puts_no_value_of_its_own_into_a_text_that_names_none(generated: int) -> None:
    chance = random.Random(20261128)  # noqa: S311 - the same texts every time
    known = tuple(
        Placeholder(entity, number, (f"{entity} of {number}",)) for entity in ENTITIES for number in (1, 2, 3)
    )
    earlier = RestoreMap(ID, known, backslash_is_text=False, expires_at=int((NOON + HOUR).timestamp()))
    tried = 0
    for number in range(generated):
        text, found = made_up(chance)
        spans = resolve_overlaps(text, found)
        blank = "".join(text[start:end] + "<>" for start, end in gaps(spans)) + text[spans[-1].end if spans else 0 :]
        if {each[:2] for each in mentions(blank, ENTITIES)} & {(each.entity, each.number) for each in known}:
            continue
        tried += 1
        redaction = Redactor(known=known).redact(text, spans)
        assert restore(redaction.text, known, backslash_is_text=True).text == redaction.text, (number, redaction)
        sealed = SEALER.seal(OTHER_ID, redaction, TENANT, earlier)
        then = SEALER.open(sealed or "", TENANT)
        whole = restore(redaction.text, then.placeholders, backslash_is_text=then.backslash_is_text)
        assert whole.text == text, (number, redaction)
    assert tried > generated / 10


def gaps(spans: list[Span]) -> list[tuple[int, int]]:
    """Return what stands before each span, after the one before it."""
    return [(before, span.start) for before, span in zip([0, *(each.end for each in spans)], spans, strict=False)]


def test_a_hundred_thousand_characters_of_anything_are_read_in_no_time() -> None:
    for unit in (
        "<",
        "PERSON_",
        "PERSON ",
        "\\<",
        "_",
        " ",
        "<PERSON",
        "person 1 ",
        "[PERSON_1](",
        "&lt;",
        "EMAIL_ADDRESS\\",
    ):
        started = thread_time()  # Not the clock's time: other processes may have the machine.
        restored(unit * (100_000 // len(unit)))
        assert thread_time() - started < 1, unit


WORDS = (
    "Ann", "ANN", "Anna Nowak", "anna  nowak", "Kowalską", "😀", "n\u0303", "ß", "<", ">", "[", "]", "(", ")", "\\",
    "_", "*", "&lt;", "&gt;", "<>", "1", "23", " 1", "_1", "_2>", "PERSON", "PERSON_", "<PERSON_", "person 1",
    "PERSON_1", "[PERSON_2]", "\\<PERSON\\_1\\>", "\\<PERSON_1>", "<PERSON_1>", "<person_3>", "EMAIL", "EMAIL_",
    "EMAİL_ADDRESS_1", "PERſON_1", "ADDRESS_1", "<EMAIL_ADDRESS_1>", "email address 1", "PL_ID_CARD_1", "ID_CARD_1",
    "605 118 902", "605-118-902", "ann@example.com", " ", " ", " ", "\n", "\t", ", ", "'s", "owi", "C:\\Users\\",
    "https://x.y/", "<b>", "<PERSON:0f1e2d3c4b5a>",
)  # fmt: skip
ENTITIES = ("PERSON", "EMAIL_ADDRESS", "PL_ID_CARD", "ID_CARD", "URL")


def made_up(chance: random.Random) -> tuple[str, list[Span]]:
    """Return a text of fragments that invite mistakes, and spans anywhere in it."""
    text = "".join(chance.choices(WORDS, k=chance.randint(1, 30)))
    spans = []
    for _ in range(chance.randint(1, 8)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.randint(1, 12))
        spans.append(Span(chance.choice(ENTITIES), start, end, chance.choice((0.5, 0.6, 0.9))))
    return text, spans


def any_table(chance: random.Random) -> RedactionTable:
    actions = ("replace", "mask", "hash", "remove", "keep")
    return RedactionTable.model_validate({"entities": {entity: chance.choice(actions) for entity in ENTITIES}})


def round_trip(redaction: Redaction) -> str:
    sealed = SEALER.seal(ID, redaction, TENANT)
    if sealed is None:
        return redaction.text
    opened = SEALER.open(sealed, TENANT)
    restoration = restore(redaction.text, opened.placeholders, backslash_is_text=opened.backslash_is_text)
    assert restoration.missing == []
    return restoration.text


def test_restoring_a_redacted_text_gives_the_original(generated: int) -> None:
    chance = random.Random(20261125)  # noqa: S311 - the same texts every time
    for number in range(generated):
        text, spans = made_up(chance)
        redaction = Redactor().redact(text, resolve_overlaps(text, spans))
        assert round_trip(redaction) == text, (number, redaction)


def test_only_replaced_values_come_back_when_kinds_are_treated_differently(generated: int) -> None:
    chance = random.Random(20261126)  # noqa: S311 - the same texts every time
    for number in range(generated):
        text, found = made_up(chance)
        table = any_table(chance)
        spans = strictest(resolve_overlaps(text, found), found, table)
        one_way = RedactionTable(
            entities={name: action for name, action in table.entities.items() if action.action != "replace"},
            default=RedactionTable.model_validate({"default": "keep"}).default,
        )
        redaction = Redactor(table, KEY).redact(text, spans)
        assert round_trip(redaction) == Redactor(one_way, KEY).redact(text, spans).text, (number, redaction)


def test_every_letter_and_digit_is_treated_as_strictly_as_any_kind_it_belongs_to_asks(generated: int) -> None:
    chance = random.Random(20261128)  # noqa: S311 - the same texts every time
    for number in range(generated):
        text, found = made_up(chance)
        table = any_table(chance)
        spans = strictest(resolve_overlaps(text, found), found, table)
        done = {place: table.of(span.entity).strictness for span in spans for place in range(span.start, span.end)}
        for span in found:
            asked = table.of(span.entity).strictness
            for place in range(span.start, span.end):
                assert not text[place].isalnum() or done.get(place, (-1, 0)) >= asked, (number, text, found, spans)


NAMES = ("Anna Nowak", "Jan Kowalski", "Piotr Zieliński", "John Smith", "Mary Jones", "Ewa")
VALUES = ("anna@example.com", "44051401359", "605 118 902", "+48 605-118-902", "4111 1111 1111 1111", "10.1.2.3")
FRAMES = (
    "My name is {}",
    "Zadzwoń do: {}",
    "PESEL {}.",
    "<{}>",
    "[{}](x)",
    "\\{}",
    "*{}*",
    "{}'s <PERSON_1>",
    "person_2 {}",
)


def test_what_the_engine_finds_comes_back(engine: PiiEngine, generated: int) -> None:
    chance = random.Random(20261127)  # noqa: S311 - the same texts every time
    for _ in range(generated // 20):
        text = " ".join(
            chance.choice(FRAMES).format(chance.choice(NAMES + VALUES)) for _ in range(chance.randint(1, 4))
        )
        scan = engine.scan(text, None, [])
        assert round_trip(scan.redaction) == text


def test_a_sealed_map_opens_to_what_was_sealed() -> None:
    sealed = SEALER.seal(ID, REDACTION, TENANT)
    assert sealed is not None
    opened = SEALER.open(sealed, TENANT)
    assert (opened.request_id, opened.placeholders) == (ID, (ANN, MAIL))
    assert "Ann" not in repr(opened)
    assert "kappa-omega" not in repr(SEALER)
    assert SEALER.seal(ID, REDACTION, TENANT) != sealed, "sealed twice alike, which tells that two maps are the same"


def test_a_text_without_placeholders_needs_no_map() -> None:
    assert SEALER.seal(ID, Redaction("hello"), TENANT) is None


def test_a_map_of_many_values_is_compact() -> None:
    placeholders = tuple(Placeholder("EMAIL_ADDRESS", n, (f"person{n}@example.com",)) for n in range(1000))
    sealed = SEALER.seal(ID, Redaction("", placeholders), TENANT)
    assert sealed is not None
    assert len(sealed) < 10_000


def test_a_map_can_be_used_until_it_expires() -> None:
    sealed = SEALER.seal(ID, REDACTION, TENANT)
    assert sealed is not None
    MapSealer((KEY,), HOUR, lambda: NOON + HOUR - timedelta(seconds=1)).open(sealed, TENANT)
    with pytest.raises(RestoreMapRefused):
        MapSealer((KEY,), HOUR, lambda: NOON + HOUR).open(sealed, TENANT)


def test_every_changed_character_is_noticed() -> None:
    sealed = SEALER.seal(ID, REDACTION, TENANT)
    assert sealed is not None
    for place, character in enumerate(sealed):
        for other in {"A", "B", "_", "=", "\n", "é"} - {character}:
            with pytest.raises(RestoreMapRefused):
                SEALER.open(sealed[:place] + other + sealed[place + 1 :], TENANT)
    for value in (
        "Ann",
        "Anne",
        "Annabel",
        "Annabella",
    ):  # Of several lengths, so that the last character has spare bits.
        shorter = SEALER.seal(ID, Redaction("", (Placeholder("PERSON", 1, (value,)),)), TENANT)
        assert shorter is not None
        for last in {*ascii_letters, *digits, "-", "_"} - {shorter[-1]}:
            with pytest.raises(RestoreMapRefused):
                SEALER.open(shorter[:-1] + last, TENANT)
    for cut in range(0, len(sealed), 7):
        with pytest.raises(RestoreMapRefused):
            SEALER.open(sealed[:cut], TENANT)
    with pytest.raises(RestoreMapRefused):
        SEALER.open(sealed + "A", TENANT)


@pytest.mark.parametrize("other", ["default", "acm", "acme2", "ACME"])
def test_a_map_opens_for_its_own_tenant_alone(other: str) -> None:
    sealed = SEALER.seal(ID, REDACTION, TENANT)
    assert sealed is not None
    for renamed in (sealed, "v1." + sealed[3:]):
        with pytest.raises(RestoreMapRefused):
            SEALER.open(renamed, other)
    with pytest.raises(RestoreMapRefused):
        SEALER.open("v1." + sealed[3:], TENANT)


def test_a_map_of_before_they_were_bound_opens_until_it_expires() -> None:
    sealed = (
        "v1."
        "pmotLkifc9SAO-yxp0N8XXxD-"
        "pqV6cn1yrYHfDAuBd80DNIKJDooQf_wG1HqC0JOSTwyk0UxzYV5bjs0-07effy6osFrGboEAhrEwTdS6O0xbI3C8Lr3ptr-"
        "Tetma-GvQDVjNjsetpvWGe78bJdhJszy8XvyRg9rTO1dcVCm"
    )
    assert SEALER.open(sealed, TENANT).placeholders == (ANN, MAIL)
    with pytest.raises(RestoreMapRefused):
        MapSealer((KEY,), HOUR, lambda: NOON + HOUR).open(sealed, TENANT)
    with pytest.raises(RestoreMapRefused):
        SEALER.open("v2." + sealed[3:], TENANT)


def test_the_first_key_seals_and_all_open() -> None:
    old, new, rotated = (MapSealer(keys, HOUR, lambda: NOON) for keys in ((KEY,), (OTHER_KEY,), (OTHER_KEY, KEY)))
    before, after = (sealer.seal(ID, REDACTION, TENANT) for sealer in (old, rotated))
    assert before is not None
    assert after is not None
    opened = (rotated.open(before, TENANT), rotated.open(after, TENANT), new.open(after, TENANT))
    assert {each.request_id for each in opened} == {ID}
    for sealer, sealed in ((new, before), (old, after)):
        with pytest.raises(RestoreMapRefused) as caught:
            sealer.open(sealed, TENANT)
        assert caught.value.faults == (("restore_map", RestoreMapRefused().message),)


def test_worker_processes_of_one_parent_share_the_key_of_a_process() -> None:
    with get_context("spawn").Pool(2) as workers:
        assert set(workers.map(key_of_this_process, range(4))) == {process_key()}
    assert len(process_key()) >= 32


def key_of_this_process(_: int) -> bytes:
    return process_key()


def test_what_redaction_writes_is_what_is_read() -> None:
    assert written("PERSON", 1) == "<PERSON_1>" == ANN.name
