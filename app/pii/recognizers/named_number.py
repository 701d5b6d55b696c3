"""What recognizers of numbers share that each issuer forms its own way: they are told by their name alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from app.pii.reading import Anchored, Reading
from app.pii.recognizers.base import NOT_BEFORE_ALNUM, Candidate, TextRecognizer
from app.pii.tables import cells_under

OF: Final = r"(?:number|num|no\.?|nr\.?|id|#)"
"""Words for a number."""
NUMBER: Final = r"[A-Z]{0,4}[-/]?[0-9][0-9A-Z]{0,11}(?:[-/][0-9A-Z]{1,8}){0,3}"
_IS: Final = r"[^0-9A-Za-z\n]{0,4}(?:(?:is|was|to|of)[^0-9A-Za-z\n]{1,3})?"
_MONTH: Final = re.compile(r"(?:19|20)[0-9]{2}[-/][01][0-9](?:[-/][0-3][0-9])?")
_DIGIT: Final = re.compile("[0-9]")


def behind(names: str, number: str) -> str:
    """Return the pattern, which ignores case, of a number right behind one of its names, as the group `value`."""
    return rf"(?:{names})(?:(?<=#)|(?![^\W_])){_IS}(?P<value>(?-i:{number})){NOT_BEFORE_ALNUM}(?![.:][0-9])"


class NamedNumberRecognizer(TextRecognizer):
    """Recognizes numbers behind their name, and in columns of tables that have it; dates are none."""

    named: ClassVar[Anchored]
    column: ClassVar[re.Pattern[str]]
    """Of whole headers, see `cells_under`."""
    cell: ClassVar[re.Pattern[str]]
    """Of whole cells below them."""
    shortest: ClassVar[int] = 1
    """Fewest code points."""

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in self.named.finditer(reading):
            if self._is_number(match["value"]):
                yield Candidate(*match.span("value"), score=0.9)
        for cell in cells_under(reading, self.column):
            value = self.cell.fullmatch(reading.text, cell.start, cell.end)
            if value is not None and self._is_number(value[0]):
                yield Candidate(cell.start, cell.end, score=0.9)

    def _is_number(self, value: str) -> bool:
        digits = len(_DIGIT.findall(value))
        return len(value) >= self.shortest and digits >= self.fewest_digits and not _MONTH.fullmatch(value)
