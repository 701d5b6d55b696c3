"""Answers with personal data and secrets, and what a reader of a stream has seen of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

ALLOWED_PART: Final = 4
"""Longest part of a value, in characters, that a stream may let out."""
OPENERS: Final = (
    "Certainly, here is what the record says.",
    "I looked it up in the system for you.",
    "Of course. These are the details that were stored with the order last week.",
)
FRAMES: Final = (
    ("You can write to {} about it, and somebody will answer within two days.", "EMAIL"),
    ("The transfer goes to the account {} of our branch in the town.", "IBAN"),
    ("The PESEL {} is on file since the contract was signed.", "PESEL"),
    ("The card {} was charged on the first day of the month.", "CARD"),
    ("Call {} in the evening, when the office is closed for visitors.", "PHONE"),
    ("Set the environment to use the key {} and restart the worker after that.", "KEY"),
    ("The request needs the header Authorization: Bearer {} in each call.", "TOKEN"),
    ("It connects to {} when the service starts in the morning.", "URL"),
    ("The order was placed by {} and paid on the same day.", "NAME"),
)
ASIDES: Final = (
    "The order was packed in the morning and left the warehouse at noon.",
    "It was weighed twice, since the first scale had not been set to zero.",
    "The driver took the longer road along the river because of the works on the bridge.",
    "Rain is expected for the rest of the week, so the covers will stay on.",
    "The second box is larger than the first and holds the parts of the frame.",
    "Nobody has to be at home when it comes, since there is a locker at the gate.",
)
LONG_EVERY: Final = 10
CLOSERS: Final = ("Is there anything else that I can do?", "Please let me know if that helps.", "")
LETTERS: Final = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
NAMES: Final = ("Anna Nowak", "Peter Johnson", "Maria Kowalska", "James Wilson", "Katarzyna Wiśniewska", "Emily Carter")


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    values: tuple[tuple[int, int], ...]
    """Where its values stand."""


def answers(count: int, seed: int = 1) -> Iterator[Answer]:
    """Yield answers with one to three values each; before those of every tenth stands more than a stream keeps."""
    rng = random.Random(seed)  # noqa: S311 - texts, not secrets
    for number in range(count):
        pieces = [rng.choice(OPENERS)]
        if number % LONG_EVERY == LONG_EVERY - 1:
            pieces += rng.sample(ASIDES, len(ASIDES))
        values = []
        for frame, kind in rng.sample(FRAMES, rng.randint(1, 3)):
            before, _, after = frame.partition("{}")
            value = _value(kind, rng)
            start = len(" ".join(pieces)) + 1 + len(before)
            values.append((start, start + len(value)))
            pieces.append(before + value + after)
        pieces.append(rng.choice(CLOSERS))
        yield Answer(" ".join(pieces).rstrip(), tuple(values))


def _value(kind: str, rng: random.Random) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(30))
    random_letters = "".join(rng.choice(LETTERS) for _ in range(60))
    match kind:
        case "EMAIL":
            return f"{rng.choice(('anna', 'j.smith', 'office', 'kontakt'))}.{random_letters[:5].lower()}@example.com"
        case "IBAN":
            return _iban("PL", digits[:24])
        case "PESEL":
            return _pesel(f"{rng.randint(50, 99)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{digits[:4]}")
        case "CARD":
            number = _luhn("4" + digits[:14])
            return " ".join(number[at : at + 4] for at in range(0, 16, 4))
        case "PHONE":
            return f"+48 60{digits[0]} {digits[1:4]} {digits[4:7]}"
        case "KEY":
            return f"sk-proj-{random_letters[:40]}"
        case "TOKEN":
            return f"{random_letters[:24]}7x{random_letters[24:50]}9"
        case "URL":
            return f"postgres://app:{random_letters[:14]}7@db.example.com:5432/k7v"
        case _:
            return rng.choice(NAMES)


def _luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


def _pesel(body: str) -> str:
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    return body + str(-sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 10)


def _iban(country: str, account: str) -> str:
    as_number = "".join(str(int(sign, 36)) for sign in account + country + "00")
    number = f"{country}{98 - int(as_number) % 97:02}{account}"
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4))


def found_values(answer: Answer, redacted_in_one: str) -> list[str]:
    """Return the values that are recognised when the answer is read in one piece: no stream can know more."""
    found = [answer.text[start:end] for start, end in answer.values]
    return [value for value in found if leaked_part(value, redacted_in_one) <= ALLOWED_PART]


def leaked_part(value: str, shown: str) -> int:
    """Return the length of the longest part of a value that can be read in what was shown."""
    longest = 0
    for start in range(len(value)):
        while start + longest < len(value) and value[start : start + longest + 1] in shown:
            longest += 1
    return longest


def chunks(text: str, cuts: Iterable[int]) -> list[str]:
    """Cut a text at these places."""
    places: Sequence[int] = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def random_cuts(text: str, rng: random.Random, longest: int = 12) -> list[int]:
    """Return cuts as a model's tokens make them."""
    cuts, place = [], 0
    while place < len(text):
        place += rng.randint(1, longest)
        cuts.append(place)
    return cuts
