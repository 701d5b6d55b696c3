"""Makes up messages with marked personal data: `python -m app.pii.generator --language pl --count 500 > made_up.jsonl`.

Names, streets and towns come from Faker (a development dependency), sentences are our own, and identifiers have right
checksums or, unmarked and with the note "wrong_checksum", deliberately wrong ones. A seed gives the same texts again.
Made-up sentences of few forms test recognizers of numbers; what reads names is measured on written text (data/pii).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from app.errors import VigilError
from app.pii import checksums

if TYPE_CHECKING:
    from faker import Faker

LOCALES: Final = {"en": ("en_US", "en_GB"), "pl": ("pl_PL",)}
_SLOT: Final = re.compile(r"\{(wrong_)?(\w+)\}")
_TRIES: Final = 10_000

SENTENCES: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "Please book a table for {person}, the number is {phone}.",
        "My name is {person} and I live at {address}; write to {email}.",
        "Card {card} was charged twice, the holder is {person}.",
        "Card {wrong_card} was refused, what does code 14 mean?",
        "Pay the invoice to IBAN {iban}, reference 2024/117.",
        "Our bank says that IBAN {wrong_iban} is not valid.",
        "Patient {person}, NHS number {nhs}, is to be seen on Ward 4.",
        "The form rejects NHS number {wrong_nhs}, is the check digit wrong?",
        "Forward everything from {ip} to {email} and tell {person}.",
        "Contact of the tenant: {person}, {phone}, {email}.",
        "Polish supplier, NIP {nip}, REGON {regon}, signed by {person}.",
        "Is NIP {wrong_nip} a valid VAT id?",
        "Order 4418273 over 1,249.99 EUR leaves on 12 August, version 3.11.7 of the list is attached.",
        "Room 1204 seats 40 people; the meeting covers chapters 4 to 11.",
    ),
    "pl": (
        "Nazywam się {person}, mój PESEL to {pesel}.",
        "Formularz nie przyjmuje numeru PESEL {wrong_pesel}, dlaczego?",
        "Proszę o fakturę, NIP {nip}, adres {address}.",
        "Czy NIP {wrong_nip} jest poprawny?",
        "REGON firmy: {regon}, w sprawie umowy dzwoni {person}, tel. {phone}.",
        "Podany REGON {wrong_regon} nie istnieje w rejestrze.",
        "Dowód osobisty {id_card} wydano na nazwisko {person}.",
        "System odrzuca dowód osobisty {wrong_id_card}.",
        "Przelew na konto {iban}, odbiorca {person}.",
        "Numer konta {wrong_iban} jest błędny.",
        "Karta {card} została zablokowana, kontakt: {email}.",
        "Karta {wrong_card} nie przechodzi weryfikacji.",
        "Księga wieczysta {land_register}, właściciel {person}.",
        "Zamówienie 4402918663 na kwotę 1 249,99 zł wyjedzie 12 sierpnia, wersja cennika 3.11.7.",
        "Sala 1204 mieści 40 osób, zebranie trwa od 14:00 do 15:30.",
    ),
}
ENTITIES: Final = {
    "person": "PERSON", "phone": "PHONE_NUMBER", "address": "STREET_ADDRESS", "email": "EMAIL_ADDRESS",
    "card": "CREDIT_CARD", "iban": "IBAN_CODE", "nhs": "UK_NHS", "ip": "IP_ADDRESS", "nip": "PL_NIP",
    "regon": "PL_REGON", "pesel": "PL_PESEL", "id_card": "PL_ID_CARD", "land_register": "PL_LAND_REGISTER",
}  # fmt: skip
"""What each slot of a sentence holds."""


class Maker:
    """Makes values: one generator of chance for Faker's and our own."""

    def __init__(self, language: str, seed: int) -> None:
        from faker import Faker

        self._chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._fakers = [Faker(locale) for locale in LOCALES[language]]
        for number, faker in enumerate(self._fakers):
            faker.seed_instance(seed + number)
        self._language = language

    def text(self) -> dict[str, Any]:
        """Return one row: text, spans, lang, kind, note."""
        sentence = self._chance.choice(SENTENCES[self._language])
        faker = self._chance.choice(self._fakers)
        text, spans, at, note = "", [], 0, ""
        for slot in _SLOT.finditer(sentence):
            text += sentence[at : slot.start()]
            wrong, kind = bool(slot[1]), slot[2]
            value = self._number(kind, right=not wrong) if kind in _NUMBERS else self._word(kind, faker)
            if wrong:
                note = "wrong_checksum"
            else:
                spans.append({"start": len(text), "end": len(text) + len(value), "entity": ENTITIES[kind]})
            text += value
            at = slot.end()
        text += sentence[at:]
        return {"text": text, "spans": spans, "lang": self._language, "kind": "made_up", "note": note}

    def _word(self, kind: str, faker: Faker) -> str:
        match kind:
            case "person":
                return f"{faker.first_name()} {faker.last_name()}"
            case "phone":
                return self._phone()
            case "address" if self._language == "pl":
                return f"ul. {faker.street_name()} {self._chance.randint(1, 120)}, {faker.postcode()} {faker.city()}"
            case "address":
                return f"{self._chance.randint(1, 240)} {faker.last_name()} Street"
            case "email":
                return f"{faker.user_name()}@example.com"
            case _:
                return str(faker.ipv4_public())

    def _phone(self) -> str:
        if self._language == "pl":
            return f"+48 {self._chance.choice('56')}0{self._digits(1)} {self._digits(3)} {self._digits(3)}"
        return f"+1 {self._chance.choice(('212', '415', '617'))} 5{self._digits(2)} {self._digits(4)}"

    def _number(self, kind: str, *, right: bool) -> str:
        """Draw until the checksum is right, or until it is wrong and only the checksum is."""
        draw, is_right = _NUMBERS[kind]
        for _ in range(_TRIES):
            value = draw(self)
            if is_right(value) == right:
                return value
        raise VigilError(f"no {kind} could be made up")  # A fault of the table.

    def _digits(self, count: int) -> str:
        return "".join(self._chance.choices(string.digits, k=count))

    def pesel(self) -> str:
        born = date(1940, 1, 1) + timedelta(days=self._chance.randrange(21_900))
        return f"{born:%y%m%d}{self._digits(5)}"

    def nip(self) -> str:
        return self._chance.choice(("521", "525", "631", "677", "781", "898")) + self._digits(7)

    def regon(self) -> str:
        return self._chance.choice("123") + self._digits(8)

    def id_card(self) -> str:
        return "".join(self._chance.choices("ABCDEFGHIJKLMNPRSTUWXYZ", k=3)) + self._digits(6)

    def iban(self) -> str:
        return f"PL{self._digits(2)}" + "".join(f" {self._digits(4)}" for _ in range(6))

    def card(self) -> str:
        return f"4{self._digits(3)} " + " ".join(self._digits(4) for _ in range(3))

    def nhs(self) -> str:
        return f"{self._chance.choice('4567')}{self._digits(2)} {self._digits(3)} {self._digits(4)}"

    def land_register(self) -> str:
        court = self._chance.choice(("WA1M", "KR1P", "PO1P", "GD1G", "WR1K", "LU1I"))
        return f"{court}/{self._digits(8)}/{self._digits(1)}"


def _compact(value: str) -> str:
    return value.replace(" ", "")


_NUMBERS: Final[dict[str, tuple[Callable[[Maker], str], Callable[[str], bool]]]] = {
    "pesel": (Maker.pesel, checksums.is_pesel),
    "nip": (Maker.nip, checksums.is_nip),
    "regon": (Maker.regon, checksums.is_regon),
    "id_card": (Maker.id_card, checksums.is_polish_id_card),
    "iban": (Maker.iban, lambda value: checksums.is_iban(_compact(value))),
    "card": (Maker.card, lambda value: checksums.is_luhn(_compact(value))),
    "nhs": (Maker.nhs, lambda value: checksums.is_nhs_number(_compact(value))),
    "land_register": (Maker.land_register, lambda value: checksums.is_land_register(value.replace("/", ""))),
}


def made_up(language: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows in the form of data/pii.

    Raises:
        VigilError: Faker is not installed.
    """
    if find_spec("faker") is None:
        raise VigilError("making texts up needs Faker, which the development environment has")
    maker = Maker(language, seed)
    for _ in range(count):
        yield maker.text()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m app.pii.generator", description=__doc__)
    parser.add_argument("--language", choices=sorted(LOCALES), default="en")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    try:
        for row in made_up(chosen.language, chosen.count, chosen.seed):
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    except VigilError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
