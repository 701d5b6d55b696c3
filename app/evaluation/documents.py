"""Documents as they are: passages of manuals, guides and pages from a folder.

A folder holds a folder for each collection, with files as they come: plain text, pages in HTML, manual pages in roff,
all of them also compressed with gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

PER_COLLECTION: Final = 170
"""Most passages of one collection."""
PER_FILE: Final = 6
_LINES: Final = (5, 60)
_WORDS: Final = (30, 220)
FEWEST_WORDS: Final = 20
_LONGEST_LINE: Final = 2_500
"""Code points of a line from which it ends a passage: data, or a script."""
_MOST_BYTES: Final = 600_000
_FEWEST_CHARACTERS: Final = 200
_LETTERS: Final = 0.4
"""Least share of letters: tables of numbers teach nothing."""
_NO_TEXT: Final = frozenset(
    (".css", ".dat", ".db", ".epub", ".gif", ".jpg", ".js", ".mo", ".pdf", ".png", ".pyc", ".so", ".svg", ".u8", ".xz")
)
_NO_DOCUMENTS: Final = ("changelog", "copyright", "NEWS")
_QUOTES: Final = re.compile(r"\n%\n")
"""What stands between the sayings of a collection for `fortune`."""
_ENGLISH: Final = re.compile(r"\b(?:the|and|of|to|is|in|that|for|with|you|this|be)\b", re.IGNORECASE)
_OFTEN: Final = 0.1
"""Share of such words from which a passage is taken for English."""


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    collection: str

    @property
    def is_english(self) -> bool:
        return len(_ENGLISH.findall(self.text)) >= _OFTEN * len(self.text.split())


def passages(folder: Path) -> list[Passage]:
    """Return passages of every collection in a folder; the same files give the same ones.

    Raises:
        FileNotFoundError: it holds no collection.
    """
    collections = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not collections:
        raise FileNotFoundError(folder)
    return [found for collection in collections for found in _of_collection(collection)]


def passage(text: str, seed: str) -> str | None:
    """Return some lines of a text from a place that the seed tells; None where they are hardly words."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    lines = text.splitlines()
    count = chance.randint(*_LINES)
    begin = chance.randrange(max(1, len(lines) - count))
    most, words = chance.randint(*_WORDS), 0
    taken: list[str] = []
    for line in lines[begin : begin + count]:
        words += len(line.split())
        if (words > most and taken) or len(line) > _LONGEST_LINE:
            break
        taken.append(line)
    found = "\n".join(taken).strip("\n")
    letters = sum(map(str.isalpha, found))
    return found if len(found.split()) >= FEWEST_WORDS and letters > _LETTERS * len(found) else None


def _of_collection(collection: Path) -> Iterator[Passage]:
    name, seen = collection.name, set[str]()
    paths = [path for path in collection.rglob("*") if path.is_file() and not path.is_symlink() and _is_document(path)]
    for path in sorted(paths, key=lambda path: _lot(str(path.relative_to(collection)))):
        for found in _passages(path, f"{name}:{path.relative_to(collection)}"):
            if len(seen) == PER_COLLECTION:
                return
            if found not in seen:
                seen.add(found)
                yield Passage(found, name)


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def _is_document(path: Path) -> bool:
    return not path.name.startswith(_NO_DOCUMENTS) and path.suffix not in _NO_TEXT


def _passages(path: Path, seed: str) -> Iterator[str]:
    text = _plain(path, _read(path))
    if len(text) < _FEWEST_CHARACTERS:
        return
    sayings = _QUOTES.split(text)
    if len(sayings) > PER_FILE:
        chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        sayings = [found.strip() for found in sayings if FEWEST_WORDS // 2 <= len(found.split()) <= _WORDS[1]]
        yield from chance.sample(sayings, min(2 * PER_FILE, len(sayings)))
        return
    for part in range(min(PER_FILE, 1 + len(text) // 4_000)):
        found = passage(text, f"{seed}:{part}")
        if found is not None:
            yield found


def _read(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        return ""


def _plain(path: Path, text: str) -> str:
    beginning = text[:500].lower()
    if "<html" in beginning or "<!doctype" in beginning or ".htm" in path.name:
        page = _Page()
        page.feed(text)
        return re.sub(r"\n\s*\n+", "\n\n", "".join(page.parts))
    if re.search(r"^\.(?:TH|Dd|SH|Sh) ", text, re.MULTILINE):
        return _of_roff(text)
    return text


class _Page(HTMLParser):
    """The text of a page, a line for each of its blocks."""

    _UNSEEN: Final = frozenset(("script", "style", "head"))
    _BLOCKS: Final = frozenset(("p", "br", "li", "tr", "h1", "h2", "h3", "pre", "div", "dt", "dd"))

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in self._UNSEEN
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in self._UNSEEN))

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)


_FONTS: Final = re.compile(r"\.(?:B|I|BR|IR|RB|RI|BI|IB|SM|SB|Nm|Fl|Ar|Xr|Pa|Cm|Dv|Em|Ql|Li|Fa|Fn|Va|Er)\s+(.+)")
_HEADINGS: Final = re.compile(r"\.(?:SH|SS|Sh|Ss)\s+(.+)")
_WORD_OF_ROFF: Final = re.compile(r'"([^"]*)"|(\S+)')
_ESCAPES: Final = (
    (re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)"), ""),
    (re.compile(r"\\\(aq|\\\(cq|\\\(oq"), "'"),
    (re.compile(r"\\\(lq|\\\(rq|\\\(dq"), '"'),
    (re.compile(r"\\\(em|\\\(en|\\-"), "-"),
    (re.compile(r"\\\*(?:\[[^\]]*\]|\(..|.)|\\\(..|\\s[+-]?\d+|\\[&/,|^c]|\\\[[^\]]*\]"), ""),
    (re.compile(r"\\e"), r"\\"),
    (re.compile(r"\\[ ~]"), " "),
)


def _of_roff(text: str) -> str:
    """Return about what `man` shows of a manual page."""
    lines: list[str] = []
    for line in text.splitlines():
        if heading := _HEADINGS.match(line):
            lines += ["", heading[1].strip('"')]
        elif words := _FONTS.match(line):
            lines.append(" ".join(quoted or bare for quoted, bare in _WORD_OF_ROFF.findall(words[1])))
        elif line.startswith((".", "'")):
            if line.startswith((".PP", ".P", ".LP", ".TP", ".IP", ".Pp", ".sp", ".It")):
                lines.append("")
        else:
            lines.append(line)
    shown = "\n".join(lines)
    for pattern, replacement in _ESCAPES:
        shown = pattern.sub(replacement, shown)
    return re.sub(r"\n\n+", "\n\n", shown)
