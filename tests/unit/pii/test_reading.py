"""What a reading tells of a text, and that patterns which are tried at few places find all they find anywhere."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import app.pii.recognizers
from app.pii.characters import kinds_of, words_of
from app.pii.engine import PiiEngine
from app.pii.reading import FARTHEST_DIGIT, Anchored, Reading, in_stretches
from app.pii.recognizers import api_key, crypto, mac_address, vehicle_number
from app.pii.recognizers.known_names import Preceding
from app.pii.words import words
from tests.running_service import CHECKOUT

ANCHORED = {
    f"{module.name}.{name}": value
    for module in pkgutil.iter_modules(app.pii.recognizers.__path__)
    for name, value in vars(importlib.import_module(f"app.pii.recognizers.{module.name}")).items()
    if isinstance(value, Anchored)
}
IN_STRETCHES = {
    "api_key": (api_key._PREFIXED, api_key._LOOSE, api_key._TOKEN, api_key._WEBHOOK),
    "crypto": (crypto._BASE58, crypto._BECH32, crypto._ETHEREUM),
    "mac_address": (mac_address._MAC,),
    "vehicle_number": (vehicle_number._NUMBER,),
}
PIECES = (
    *sorted(
        words(
            "ul. al os. plac Rynek rondo P.O. po box skr. poczt. via rue straat straße STR. Gasse weg 12/3 7a SW1A 1AA "
            "D02 AF30 GIR 0AA CA 90210 NSW 2000 00-950 Warszawa 4111 1111 PL61 109010140000071219812874 44051401359 "
            "ABA300000 ZS 9000003 LJ51 ABC KR 12345 AB123456C AB 12 34 56 C MORGA657054SM9IJ A1234567 00012/12/1234 "
            "WA1M/00012345/6 0000012345 123-45-6789 192.168.0.1 fe80::1 2001:db8::ff00:42:8329 ab:cd: 12:30 pesel "
            "00:1A:2B:3C:4D:5E 0011.2233.4455 hasło Hasłem: haśle password= passwd: pwd=> wpa-key psk wi-fi_key login: "
            "user name użytkownik nick handle screen-name gamertag ssh scp anna@host sudo: session opened for root "
            "Accepted publickey Failed api_key= client-secret: token auth credentials klucz_api Bearer Authorization: "
            "basic proxy-authorization mysql+x:// postgres://a:b@c Password=x; AccountKey=abcd; jdbc:h2:// jan. marca "
            "February 3 maja 1931 IX 14th May PSC USS Unit APO AE 09012 apt. Flat Street Rd Main Żółta ſtr K ıs İd "
            "u/anna_k Anna Nowak O’Brien-Smith (+48) 605 118 902 +1 0048 22 774 03 55 ( + - . , ; : / _ @ ' ² ٣ 一 ﬁ ⓐ"
        )
    ),
    "440514 01359",
    "PSC 12, Box 345, APO AE 09012",
    "ssh anna@host",
    "age: 41",
    "w wieku 7",
    "/home/anna/x",
    "TODO(anna_k): x",
    "https://www.reddit.com/u/anna_k",
    "pesel44051401359",
    "sort code 20-45-77",
    "routing no. 021000021",
    "acct number 43871206",
    "MRN: 00482913",
    "policy number 00482913",
    "35-209900-176148-1",
    "490154203237518",
    "mysql -h db -pS3cr3t1",
    "curl -u me:S3cr3t1",
    "<db:password>S3cr3t1</",
    "password | S3cr3t1 |\n",
    "44 05 14 01359",
    "526.104.08.28",
    "nip5261040828",
    "Cookie: sessionid=3f9a2b7c8d1e4f6a",
    "\n",
    "\t",
    "\u00a0",
    '"',
    " ",
)


def written(chance: random.Random) -> str:
    """Return a text of things that values begin with, are made of, and stand beside."""
    pieces = [chance.choice(PIECES) for _ in range(chance.randrange(2, 60))]
    text = "".join(piece + chance.choice(("", " ", " ", " ", "\n", "-", "_", ", ", ":")) for piece in pieces)
    return chance.choice((str, str, str.lower, str.upper))(text)


def texts() -> Iterator[str]:
    chance = random.Random(11)  # noqa: S311 - reproducible, not secret
    for _ in range(400):
        yield written(chance)
    for name in ("english", "polish", "traps", "addresses_dates_handles"):
        lines = Path(CHECKOUT, "data/pii", f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        yield from (json.loads(line)["text"] for line in lines[::12])


TEXTS = list(texts())


def spans(matches: Iterable[re.Match[str]]) -> list[tuple[int, int]]:
    return [match.span() for match in matches]


@pytest.mark.parametrize("name", ANCHORED)
def test_no_match_is_hidden_by_what_is_known_of_where_it_begins(name: str) -> None:
    anchored = ANCHORED[name]
    assert anchored.digit_within is None or anchored.digit_within <= FARTHEST_DIGIT
    found = 0
    for text in TEXTS:
        everywhere = spans(anchored.pattern.finditer(text))
        assert spans(anchored.finditer(Reading(text))) == everywhere, text
        found += len(everywhere)
    assert found > 0


@pytest.mark.parametrize("name", IN_STRETCHES)
def test_no_match_is_hidden_outside_of_long_stretches(name: str) -> None:
    chance = random.Random(5)  # noqa: S311
    values = [
        "00:1A:2B:3C:4D:5E",
        "0x" + "aB3" * 13 + "4",
        "bc1q" + "ar0srrr7x" * 3,
        "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
    ]
    values += ["AKIA" + "ABCDEFGH" * 2, "eyJhbGciOiJI.abcd.efg", "https://hooks.slack.com/services/" + "T0/b" * 6]
    values += ["sk-" + "a1B2" * 6, "xoxb-" + "1a" * 5, "WVWZZZ1JZXW000001"]
    found = dict.fromkeys(IN_STRETCHES[name], 0)
    for text in TEXTS:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.choice(("", " ", "=", "/", "\n")) + chance.choice(values) + text[place:]
        for pattern in found:
            everywhere = spans(pattern.finditer(text))
            assert spans(in_stretches(pattern, Reading(text))) == everywhere, text
            found[pattern] += len(everywhere)
    assert all(found.values())


@pytest.mark.parametrize("kind", ["words", "digits"])
def test_words_and_digits_are_where_patterns_see_them(kind: str) -> None:
    for text in [*TEXTS, "".join(map(chr, range(0x3000))), "a_b 1²٣ \U0001d7d8\U0001f600x"]:
        reading = Reading(text)
        if kind == "words":
            starts, ends = words_of(kinds_of(text))
            found = [*zip(starts.tolist(), ends.tolist(), strict=True)]
            assert found == spans(re.finditer(r"[^\W_]+", text))
        else:
            begun = [match.start() for match in re.finditer(r"(?<![^\W_])[0-9]", text)]
            assert reading.before_number(0, 1) == begun
            assert reading.digits == len(re.findall("[0-9]", text))
            assert reading.longest_number == max(map(len, re.findall("[0-9]+", text)), default=0)


def test_folding_keeps_places_and_takes_for_alike_what_patterns_do() -> None:
    text = "".join(map(chr, range(0x110000 - 0x100000)))
    folded = Reading(text).folded
    assert len(folded) == len(text)
    for letter in "abcdefghijklmnopqrstuvwxyząćęłńóśźżäåß":
        alike = [match.start() for match in re.finditer(letter, text, re.IGNORECASE)]
        assert {folded[place] for place in alike} == {letter}


@pytest.mark.parametrize(
    "text", ["Zip code 90210, pesel44051401359 password: Qw3rty!! user: anna_k77", "Użytkownik: ola_99"]
)
def test_a_recognizer_alone_finds_what_it_finds_among_others(engine: PiiEngine, text: str) -> None:
    recognizers = engine._analyzers.patterns.get_recognizers("en")
    shared = {(each.entity_type, each.start, each.end) for each in engine._analyzers.patterns.analyze(text, "en")}
    alone = {(each.entity_type, each.start, each.end) for one in recognizers for each in one.analyze(text, [], None)}
    assert shared <= alone
    assert shared


@pytest.mark.parametrize("ending", ["", ". ", " ", ":\n", "’s ", "_", "\u0130"])
def test_words_before_a_name_that_are_not_read_would_have_told_nothing(ending: str) -> None:
    telling = [
        "Mr",
        "my_boss",
        "my boss",
        "name",
        "name's",
        "Św. J.",
        "ul.",
        "called",
        "nobody",
        "signed by",
        "\u0130mr",
    ]
    padded = [f"{'-' * 30}{word}{ending}{'.' * blanks}" for word in telling for blanks in (0, 1, 2, 8, 9, 10, 20)]
    said = 0
    for text in [*TEXTS[::3], *("  ".join(telling[:n]) + ending + "Ann" for n in range(12)), *padded]:
        for start in words_of(kinds_of(text + "Ann"))[0].tolist():
            quick, read = Preceding.at(Reading(text + "Ann"), start), Preceding.of(text + "Ann", start)
            assert tells(quick) == tells(read), (text, start)
            said += any(tells(read))
    assert said


def tells(before: Preceding) -> tuple[bool, ...]:
    return (
        before.is_title(), before.is_place(), before.is_introduction(), before.is_label(), before.is_name_label()
    )  # fmt: skip
