"""Markup as a model reads it: words that tags part, and words each in quotes or brackets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from app.detection.normalise.encodings import Found, without_entities
from app.detection.normalise.gate import FREQUENT, triggers_in
from app.detection.normalise.vocabulary import RANKS, is_plausible

# --- Words that tags part -------------------------------------------------------------------------------------------

_INLINE: Final = (
    r"(?:a|abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|nobr|q|s|samp|small|span|strike|strong|"
    r"sub|sup|time|tt|u|var|wbr)"
)
"""Elements that do not part words: a page shows the letters on both sides of their tags as one word."""
_UNSEEN_ENTITY: Final = (
    r"&(?:shy|zwnj|zwj|ZeroWidthSpace|NoBreak|InvisibleComma|lrm|rlm|"
    r"\#0{0,4}(?:173|820[3-7]|8288|65279)|\#[xX]0{0,4}(?:[aA][dD]|200[b-fB-F]|2060|[fF][eE][fF][fF]));?"
)
_INSIDE: Final = re.compile(
    rf"(?<=[^\W\d_])(?:</?{_INLINE}(?:\s[^<>]{{0,200}})?/?>|<!--[^<>]{{0,80}}-->|{_UNSEEN_ENTITY})+(?=[^\W\d_])",
    re.IGNORECASE,
)
"""What stands between two letters without parting them."""
_INSIDE_SIGN: Final = re.compile(r"[<&](?<=[^\W\d_].)")
_TAG: Final = re.compile(r"<(?:/?[A-Za-z][^<>]{0,400}|!--[^<>]{0,400}--)>")
_BREAK: Final = re.compile(r"\n[ \t\r]*\n|</?(?!" + _INLINE + r"\b)[A-Za-z][^<>]{0,400}>", re.IGNORECASE)
"""What ends a paragraph."""
_TELLING: Final = 24
"""Characters of a tag or comment from which it may say something itself, and is read behind the words that it parts."""
_PARTED_WORD: Final = re.compile(r"[^\W\d_]+(?:\0[^\W\d_]+)+")
_FEWEST_PARTED: Final = 2
"""Different words that must come together; one may be a large initial or a name with a mark inside."""
_JOINED_SHARE: Final = 0.5
"""Share of their letters that must then be in plausible words."""


def parted_text(visible: str) -> Iterator[Found]:
    """Join words that tags, comments or invisible entities part, in the paragraphs from the first to the last."""
    spans = _inside_spans(visible)
    if not spans:
        return
    first, last = spans[0][0], spans[-1][1]
    start = max((match.end() for match in _BREAK.finditer(visible, 0, first)), default=0)
    found = _BREAK.search(visible, last)
    end = found.start() if found else len(visible)
    marked = _INSIDE.sub("\0", visible[start:end])
    words = {word.casefold() for word in _PARTED_WORD.findall(marked)}
    joined = [word.replace("\0", "") for word in words]
    known = sum(len(whole) for word, whole in zip(words, joined, strict=True) if _is_one_word(word, whole))
    if len(joined) < _FEWEST_PARTED or known < _JOINED_SHARE * sum(map(len, joined)):
        return
    telling = [tag for tag in dict.fromkeys(_TAG.findall(visible, start, end)) if len(tag) >= _TELLING]
    text = "\n".join((_TAG.sub(" ", marked.replace("\0", "")), *telling))
    yield Found("parted_words", without_entities(text), start, end)


def _inside_spans(visible: str) -> list[tuple[int, int]]:
    """Return where _INSIDE matches; it is tried only behind a letter and a sign that it may begin with."""
    spans: list[tuple[int, int]] = []
    reached = 0
    for sign in _INSIDE_SIGN.finditer(visible):
        if sign.start() >= reached and (match := _INSIDE.match(visible, sign.start())):
            spans.append(match.span())
            reached = match.end()
    return spans


def _is_one_word(parted: str, whole: str) -> bool:
    """Tell whether parts make a word, rather than being words that a menu writes without a blank between its items."""
    words_apart = all(len(part) > 2 and part in RANKS for part in parted.split("\0"))
    return whole in RANKS or (is_plausible(whole) and not words_apart)


# --- Words each in quotes -------------------------------------------------------------------------------------------

_QUOTED_WORD: Final = re.compile(
    r"([\"'`*_~\[({«“‘„|]{1,3})([^\W_][^\s\"`*\[\](){}<>«»“”„|]{0,60})[\"'`*_~\])}»”’“|]{1,3}[.,;!?]?(?![:=\w])"
    rf"|<({_INLINE})(?:\s[^<>]{{0,20}})?>([^\s<>]{{1,60}})</\3>[.,;:!?]?",
    re.IGNORECASE,
)
"""One word between marks; a key of JSON, with a colon behind it, is none."""
_BETWEEN: Final = frozenset(" \t\r\n,;+|/&-")
_MOST_BETWEEN: Final = 4
_FEWEST_QUOTED: Final = 4
_FUNCTION_WORDS: Final = frozenset(FREQUENT) - {"key", "word", "słowo", "tekst", "zasady"}
_FUNCTION_SHARES: Final = (0.12, 0.55)
"""Share of them in a sentence, at least and at most: lists of names and things have none, those of stop words no other
words."""
_FEWEST_STOP_WORDS: Final = 12
_LONGEST_STOP_WORD: Final = 7
"""Letters of the longest stop word of most languages. Of 7,458 texts of 12 words and more 13 % have no longer word and
none twice among the first 12; of those of 20 words and more, 2 % among the first 20."""
_COLUMN_SHARE: Final = 0.5
"""Share of the lines of a table, each with as many words, that hold the same word in the same place."""
_SORTED_SHARE: Final = 0.75
"""Share of words that stand in the order of the alphabet, from which they are a list, such as one of keywords."""


def quoted_words_text(visible: str) -> Iterator[Found]:
    """Read words that are each in quotes, brackets, stars or tags of their own as the sentence they make."""
    run: list[re.Match[str]] = []
    for match in _QUOTED_WORD.finditer(visible):
        if run:
            between = visible[run[-1].end() : match.start()]
            apart = len(between) > _MOST_BETWEEN or not _BETWEEN.issuperset(between)
            if apart or match[1] != run[-1][1]:
                yield from _sentence(visible, run)
                run = []
        run.append(match)
    yield from _sentence(visible, run)


def _sentence(visible: str, run: list[re.Match[str]]) -> Iterator[Found]:
    if len(run) < _FEWEST_QUOTED:
        return
    words = [(match[2] or match[4]).strip("'’").casefold() for match in run]
    function = sum(word.rstrip(".,;:!?") in _FUNCTION_WORDS for word in words)
    low, high = _FUNCTION_SHARES
    rising = sum(word <= after for word, after in pairwise(words))
    if not low * len(words) <= function <= high * len(words) or rising >= _SORTED_SHARE * (len(words) - 1):
        return
    if not (_is_alternation(visible, run) or _is_table(visible, run, words) or _is_stop_list(words)):
        yield Found("quoted_words", " ".join(words), run[0].start(), run[-1].end())


def _is_stop_list(words: list[str]) -> bool:
    """Tell whether words are a list of stop words: short ones, each once, and none that attacks are made of."""
    return (
        len(words) >= _FEWEST_STOP_WORDS
        and len(set(words)) == len(words)
        and max(map(len, words)) <= _LONGEST_STOP_WORD
        and not triggers_in(" ".join(words))
    )


def _is_alternation(visible: str, run: list[re.Match[str]]) -> bool:
    """Tell whether the words are the groups of a regular expression, such as `(the)|(and)`."""
    return run[0][1] == "(" and all(visible[one.end(2) : other.start(2)] == ")|(" for one, other in pairwise(run))


def _is_table(visible: str, run: list[re.Match[str]], words: list[str]) -> bool:
    """Tell whether the words are a table's, as those of CSV are: its lines are alike, and a column says one thing."""
    ends = [place for place in range(1, len(run)) if "\n" in visible[run[place - 1].end() : run[place].start()]]
    width = ends[0] if ends else 0
    if width < 2 or len(ends) < 2 or ends != list(range(width, len(run), width)):
        return False
    columns = (Counter(words[place::width]).most_common(1)[0][1] for place in range(width))
    return max(columns) >= max(2, _COLUMN_SHARE * (len(ends) + 1))
