"""Passages of a page or document that people do not see, as a reader of its source would read them: without the quotes,
escapes and line ends of the format that they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from app.detection.normalise.encodings import Found, readable, without_entities
from app.detection.normalise.gate import triggers_in

FEWEST_WORDS: Final = 4
"""Of a passage: fewer are a label or a name."""
FEWEST_CHARACTERS: Final = 12
LONGEST: Final = 2_000
"""Characters of a passage; a longer one reads as it stands."""
MAX_PASSAGES: Final = 12
"""Passages of one text: those that show most TRIGGERS, among equals the longest."""
PLACES: Final = {
    "html_comment": "an HTML comment",
    "html_attribute": "an attribute of a tag",
    "markdown_comment": "a Markdown comment",
    "link_title": "the title of a link",
    "front_matter": "the front matter",
    "formula": "the text of a formula",
    "calendar_field": "a field of a calendar entry",
}
"""Where a passage may stand, by its kind."""
_OPENING: Final = re.compile(
    r"<(?:a|abbr|area|article|aside|body|button|div|fieldset|figure|form|h[1-6]|header|iframe|img|input|label|li|link|main|"
    r"meta|nav|option|p|section|select|span|svg|table|td|textarea|th|tr|ul|video)(\s[^<>]*)>",
    re.IGNORECASE,
)
"""An element of HTML: what other markup says in attributes, such as the title of a document, is there to be read."""
_ATTRIBUTE: Final = re.compile(
    r"\b(?:alt|title|content|aria-[a-z]+|data-[a-z-]+|placeholder|summary|label)\s?=\s?(\"[^\"]+\"|'[^']+')",
    re.IGNORECASE,
)
_SETTING: Final = re.compile(r"^[ \t-]{0,20}[\w.-]{1,40}:(?:\s|$)", re.MULTILINE)
_MARKDOWN_COMMENT: Final = re.compile(
    r"^ {0,3}(\[[^\]\n]{1,40}\]):[ \t]{0,4}(\S{1,200})[ \t]{1,4}([\"'][^\n]{12,2000}[\"'])[ \t\r]*$",
    re.MULTILINE,
)
"""In quotes; one in brackets reads as it stands."""
_LINK_TITLE: Final = re.compile(r"\]\(([^()\s]{0,400})[ \t]{1,4}(\"[^\n\"]{12,2000}\"|'[^\n']{12,2000}')\)")
_FRONT_LINE: Final = re.compile(
    r"^(?:description|summary|excerpt|abstract|subtitle|title|notes?|comments?|intro|about|keywords):[ \t]+"
    r"([^\n]{12,2000})$",
    re.MULTILINE | re.IGNORECASE,
)
_FRONT_REACH: Final = 8_000
"""Characters in which front matter must end."""
_FORMULA: Final = re.compile(r"=\s?[A-Z][A-Z0-9.]{1,20}\([^\n]{12,1000}")
_FORMULA_SIGNS: Final = re.compile(r"[\"&]+")
"""What puts the strings of a formula together."""
_CALENDAR_FIELD: Final = re.compile(
    r"^(?:DESCRIPTION|SUMMARY|COMMENT|LOCATION|NOTE|X-[A-Z-]{1,40})(?:;[^:\n]{0,200})?:([^\n]*(?:\n[ \t][^\n]*)*)",
    re.MULTILINE,
)
_CALENDAR_ESCAPE: Final = re.compile(r"\r?\n[ \t]|\\([,;\\nN])")


def passages_of(visible: str) -> list[Found]:
    """Return the passages of a text, at most MAX_PASSAGES, in their order and apart; each stands for all that its
    format writes around it."""
    found = [
        each
        for each in chain.from_iterable(read(visible) for sign, read in _READERS if sign in visible)
        if each.end - each.start <= LONGEST and _is_written(each.text)
    ]
    if len(found) > MAX_PASSAGES:
        ranked = sorted(found, key=lambda each: (len(triggers_in(each.text)), len(each.text)), reverse=True)
        found = ranked[:MAX_PASSAGES]
    found.sort(key=lambda each: (each.start, -each.end))
    reached = 0
    apart = []
    for each in found:
        if each.start >= reached:
            apart.append(each)
            reached = each.end
    return apart


def _is_written(text: str) -> bool:
    """Tell whether it is a text of several words; in scripts without blanks its length tells."""
    if len(text) < FEWEST_CHARACTERS or (text.isascii() and len(text.split()) < FEWEST_WORDS):
        return False
    return readable(text)


def _laid_bare(kind: str, text: str, start: int, end: int) -> Found:
    return Found(kind, f"\n{' '.join(without_entities(text).split())}\n", start, end)


def _comments(visible: str) -> Iterator[Found]:
    """Yield comments of several lines, but for those that hold settings; one line reads as it stands."""
    at = visible.find("<!--")
    while at >= 0:
        end = visible.find("-->", at + 4)
        if end < 0:
            return
        text = visible[at + 4 : end].strip()
        if "\n" in text and not _SETTING.search(text):
            yield Found("html_comment", f"<!-- {' '.join(text.split())} -->", at, end + 3)
        at = visible.find("<!--", end)


def _attributes(visible: str) -> Iterator[Found]:
    for tag in _OPENING.finditer(visible):
        for value in _ATTRIBUTE.finditer(tag[1]):
            start, end = value.span(1)
            yield _laid_bare("html_attribute", value[1][1:-1], tag.start(1) + start, tag.start(1) + end)


def _link_titles(visible: str) -> Iterator[Found]:
    for match in _LINK_TITLE.finditer(visible):
        title = _laid_bare("link_title", match[2][1:-1], *match.span())
        yield replace(title, text=f"]{title.text}({match[1]})")


def _markdown_comments(visible: str) -> Iterator[Found]:
    for match in _MARKDOWN_COMMENT.finditer(visible):
        comment = _laid_bare("markdown_comment", match[3][1:-1], *match.span())
        yield replace(comment, text=f"{match[1]}({match[2]}){comment.text}")


def _front_matter(visible: str) -> Iterator[Found]:
    if not visible.startswith("---"):
        return
    end = visible.find("\n---", 3, _FRONT_REACH)
    for line in _FRONT_LINE.finditer(visible, 3, end) if end >= 0 else ():
        yield _laid_bare("front_matter", line[1].strip("\"'"), *line.span())


def _formulas(visible: str) -> Iterator[Found]:
    for match in _FORMULA.finditer(visible):
        if '"' in match[0]:
            yield _laid_bare("formula", _FORMULA_SIGNS.sub(" ", match[0]), *match.span())


def _calendar(visible: str) -> Iterator[Found]:
    """Yield fields that are folded into several lines or hold escapes."""
    for field in _CALENDAR_FIELD.finditer(visible):
        text = _CALENDAR_ESCAPE.sub(lambda escape: " " if escape[1] in {"n", "N"} else escape[1] or "", field[1])
        if text != field[1]:
            yield _laid_bare("calendar_field", text, *field.span(1))


_READERS: Final = (
    ("<!--", _comments),
    ("<", _attributes),
    ("](", _link_titles),
    ("]:", _markdown_comments),
    ("---", _front_matter),
    ("=", _formulas),
    ("BEGIN:V", _calendar),
)
"""What is tried of a text that holds a sign."""
