"""British and American bank accounts, which have no check digits of their own: next to words of a bank alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from app.pii.checksums import is_routing_number
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate
from app.pii.tables import cells_under
from app.pii.words import words

_IS: Final = r"[^0-9A-Za-z]{0,6}(?:(?:is|was|to|of|no\.?|nos\.?|number|num|nr)[^0-9A-Za-z]{1,3}){0,2}"
"""What stands between the name of a number and the number."""
_END: Final = rf"{NOT_BEFORE_ALNUM}(?![.,/-][0-9])"
_SORT_CODE: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:sort[ _-]?code|s/c|sort[ ]?[:=]){_IS}"
    rf"(?P<value>[0-9]{{2}}([ -]?)[0-9]{{2}}\2[0-9]{{2}}){_END}",
    re.IGNORECASE,
    keys=words("so s/"),
)
_ROUTING: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:routing|aba|rtn|transit)(?:[ _-]?(?:transit|aba|rtn|code))?{_IS}"
    rf"(?:\([^()0-9\n]{{1,12}}\)[: ]{{0,2}})?(?P<value>[0-9]{{9}}){_END}",
    re.IGNORECASE,
    keys=words("ro ab rt tr"),
)
_ACCOUNT: Final = anchored(
    rf"(?:{NOT_AFTER_ALNUM}|(?<=(?-i:[a-z]))(?=(?-i:A)))(?:account|acct|acc|a/c)"
    rf"(?P<number>[ _-]?(?:number|num|no|nr){NOT_BEFORE_ALNUM}|[ ]?#)?{_IS}(?P<value>[0-9]{{6,17}}){_END}",
    re.IGNORECASE,
    parts=("acc", "a/c"),
)
_OTHER_ACCOUNT: Final = re.compile(
    r"(?<![^\W_])(?:gl|ledger|customer|utility|energy|water|user|twitter|cost|loyalty|meter)[ _-]?\Z", re.IGNORECASE
)
_LONGEST_OTHER: Final = 12
_BESIDE_ACCOUNT: Final = re.compile(
    r"(?<![^\W_])(?:sort[ _-]?code|s/c|sort[ ]?[:=]|routing|aba|rtn|ach|iban|bic|swift|checking|savings|bacs|"
    r"direct debit|direct deposit|wire)",
    re.IGNORECASE,
)
"""Words beside which any account is one of a bank."""
_OF_A_BANK: Final = re.compile(
    rf"{_BESIDE_ACCOUNT.pattern}|(?<![^\W_])(?:bank|wiring|che(?:que|ques)|transfer|payee|beneficiary)", re.IGNORECASE
)
"""Words beside which an account's number is."""
_BANK_BEFORE: Final = 100
_BANK_AFTER: Final = 40
_COLUMN: Final = re.compile(
    r"(?:bank )?(?:sort ?code|(?:account|acct|routing) ?(?:no\.?|number|nr))|bank account|routing|iban|konto|"
    r"(?:nr|numer) (?:konta|rachunku)(?: bankowego)?"
)
_CELL: Final = re.compile(r"[0-9]{6,17}|[0-9]{2}([ -])[0-9]{2}\1[0-9]{2}")


def domestic_accounts(reading: Reading) -> Iterator[Candidate]:
    """Yield sort codes behind their name, routing numbers with a check digit behind theirs, and account numbers behind
    theirs where a word of a bank is near."""
    text = reading.text
    for match in _SORT_CODE.finditer(reading):
        yield Candidate(*match.span("value"), score=0.85)
    for match in _ROUTING.finditer(reading):
        if is_routing_number(match["value"]):
            yield Candidate(*match.span("value"), score=0.9)
    for match in _ACCOUNT.finditer(reading):
        if _is_of_a_bank(text, match):
            yield Candidate(*match.span("value"), score=0.85)
    for cell in cells_under(reading, _COLUMN):
        if _CELL.fullmatch(text, cell.start, cell.end):
            yield Candidate(cell.start, cell.end, score=0.85)


def _is_of_a_bank(text: str, match: re.Match[str]) -> bool:
    start, end = match.span()
    if _OTHER_ACCOUNT.search(text[max(0, start - _LONGEST_OTHER) : start]):
        return False
    near = text[max(0, start - _BANK_BEFORE) : end + _BANK_AFTER]
    return (_OF_A_BANK if match["number"] else _BESIDE_ACCOUNT).search(near) is not None
