"""Recognizes a person's nationality, religion or political group: a word for one that the words around it say of
somebody. "French toast" and "the Catholic Church" are nobody's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from app.pii import groups
from app.pii.presidio import RecognizerResult
from app.pii.reading import Reading
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer
from app.pii.recognizers.people import KIN, PERSON, SOMEBODY, is_named
from app.pii.tagger import Tagging
from app.pii.words import words

SURE: Final = 1.0
"""Score of a word that is said of somebody in so many words: the tagger takes some for names."""
BESIDE_NAMES: Final = 0.6
"""Score of one that only stands beside a name or a word for a person: surnames are among them."""
_NEAR: Final = 56
"""Code points that are read before the word."""
_FOLLOWING: Final = 96
"""Those that are read behind it."""
MOST: Final = 1_000
"""Words for groups that are looked at in a text, the first ones: one that has more is about peoples, and 100,000
characters of nothing else would take a second."""
_NAMED: Final = 32
"""Those behind it among which a name says of whom it is."""
_BESIDE: Final = 12
"""Those among which it stands right beside."""
_BETWEEN: Final = frozenset((" ", "-"))
"""What stands between the words of one group: Roman Catholic, African-American."""
_WITH_CAPITAL: Final = words(
    "pole poles dane danes finn finns scot scots turk turks swede swedes conservative conservatives liberal liberals "
    "labour traveller travellers heathen heathens mongol mongols lao fin rom sorb sorbs green greens"
)
"""Also other words, in small letters."""

_RATHER: Final = (
    "(?:not|actually|originally|half|part|partly|mostly|also|both|an?|proud(?:ly)?|devout|practi[sc]ing|lapsed|former|"
    "fellow|very|strict|lifelong|life-long|registered|staunch|committed|born|naturali[sz]ed|dual|native|secular|lone|"
    "(?:first|second|third)[ -]generation|ethnic(?:ally)?|raised|culturally|quite|really|nominally|openly|by|of|only|"
    "young|old(?:er)?|non|ex|technically|now|still|as|well|brought up|the|mixed|good|bad|observant|"
    "conservative|liberal|reform|orthodox|born[- ]again|evangelical|card-carrying|hard-?core|new|formerly|"
    "one of(?:[ ]the)?[ ][^\\W_]+)"
)
_BEING: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:i(?: am|[’']?m| was|[’']ve been| have been)|we(?: are|[’']?re| were)|"
    r"(?P<other>s?he(?: is|[’']?s| was)|[^\W\d_]+(?:-[^\W\d_]+){0,2}(?: is| are| was| were|[’']s)))[ ]"
    rf"(?:{_RATHER}[ -]){{0,4}}$",
    re.IGNORECASE,
)
"""Who is so."""
_PERSONAL: Final = re.compile(
    rf"(?:s?he|{KIN}s?|parents|family|grandparents|in-laws|children|kids|ancestors|folks|sisters|"
    rf"brothers){NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
_OWNED: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:my|our|his|her|m[oó]j\w*|moj\w+|nasz\w*|jego|jej|sw[oó]j\w*|"
    rf"swoj\w+)[ ](?:[^\W\d_]+,?[ -]){{0,2}}$",
    re.IGNORECASE,
)
_OWN: Final = re.compile(
    rf"[ -](?:[^\W\d_-]+[ -]){{0,2}}?(?:{PERSON}|parents?|famil(?:y|ies)|grandparents?|in-laws?|ancest\w+|roots?|"
    rf"heritage|"
    r"origins?|descent|background|passports?|citizenship|nationality|faith|upbringing|accent|surname|"
    r"maiden name|name|flatmates?|friends?|colleagues?|neighbou?rs?|students?|relatives?|side of|blood|"
    r"boyfriends?|girlfriends?|ex|fianc\w+|cleaner|carer|nanny|au pair|landlord|landlady|paszport\w*|"
    r"obywatelstw\w*|korzeni\w*|rodzin\w*|nazwisk\w*|"
    rf"pochodzeni\w*|narodowo[sś]\w*|te[sś]ci\w*|przyjaci\w*|znajom\w*|m[eę][zż]\w*|[zż]on\w*|"
    rf"sz?wagie?r\w*){NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
"""What belongs to somebody, behind the word."""
_STATUS: Final = re.compile(
    r"[ -](?:citizens?|nationals?|(?:im)?migrants?|refugees?|expats?|asylum[ -]seekers?|descent|origins?|"
    r"ancestry|heritage|passport|citizenship|nationality|parents?|background|roots|faith|convert|m[ae]n|"
    r"wom[ae]n|girls?|boys?|lady|guy|gentleman|national|by (?:birth|marriage|nationality|descent)|(?:born|"
    r"raised)(?![ -]in)|on (?:my|his|her) |pochodzeni\w*|narodowo[sś]ci|obywatelstw\w*|wyznani\w*|korzeni\w*|"
    r"paszport\w*|"
    rf"(?:student|nurse|applicant|patient|tenant|resident|widow|pensioner|worker|driver)s?){NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
"""What a person is or has as one of a group, behind the word; somebody is spoken of near it."""
_SOMEBODY_BY_ITSELF: Final = re.compile(
    r"[ -](?:[^\W\d_-]+[ -])?(?:m[ae]n|wom[ae]n|lad(?:y|ies)|lads?|guys?|girls?|boys?|gentlem[ae]n|citizen|"
    r"refugee|immigrant|"
    rf"asylum[ -]seeker|expat){NOT_BEFORE_ALNUM}|[ ]by (?:birth|marriage|nationality|descent){NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
"""A person, behind the word."""
_ANYBODY: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:every|each|average|typical|any|most|many|some|all|no|if an?)[ ]$", re.IGNORECASE
)
_APPOSED: Final = re.compile(
    rf"(?:{NOT_AFTER_ALNUM}(?:{KIN}|he|she)|(?P<name>[^\W\d_]+)),[ ](?:an?|the)[ ](?:{_RATHER}[ -]){{0,3}}$",
    re.IGNORECASE,
)
"""Who is so, in passing: "my husband, a lifelong Conservative"."""
_FRAGMENT_BEFORE: Final = re.compile(
    r"(?:[1-9][0-9](?:[ ](?:lat|years old|yo|y/o|l\.))?|single|divorced|married|widow(?:er|ed)?|separated|male|"
    r"female|m|f|"
    rf"rozw[oó]dk\w|rozwiedzion\w|singielka|singiel|wdow\w+|panna|kawaler)[,;/|"
    rf"](?:[ ][^\W\d_.]+[,;])*?[ ](?:{_RATHER}[ -])?$",
    re.IGNORECASE,
)
_FRAGMENT_AFTER: Final = re.compile(r"[ ]?(?:$|[,.;/|)\n])")
"""A list of what somebody is: "41, divorced, Irish, lapsed Catholic"."""
_AS_ONE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:as|being|jako|b[eę]d[aą]c)[ ](?:an?[ ])?(?:{_RATHER}[ -]){{0,3}}(?:m[lł]od[ay][ ]|"
    rf"star[ay][ ])?$",
    re.IGNORECASE,
)
_ONE_SPEAKS: Final = re.compile(
    rf"(?:[^\n.!?]*{NOT_AFTER_ALNUM}(?:i|we|my|our|me|us|nie|czuj\w+|mog[eę]|mam|chc[eę]|musz[eę]|mnie|"
    rf"mi){NOT_BEFORE_ALNUM})",
    re.IGNORECASE,
)
_FIELD: Final = re.compile(
    r"(?<![^\W_])(?:nationality|citizenship|religion|religious affiliation|faith|denomination|ethnicity|"
    r"ethnic (?:origin|group|background)|identity|political (?:affiliation|party|views?)|party affiliation|"
    r"narodowo[sś][cć]|obywatelstwo|wyznanie|religia|pochodzenie etniczne|"
    r"pogl[aą]dy polityczne)[\"']?[ ]?(?:\([^()\n]{0,20}\)[ ]?)?"
    rf"(?:[:=|,\t\n-]|is|was|as|jest|to|(?<![ ]))[ ]?[\"']?(?:{_RATHER}[ -]){{0,2}}$",
    re.IGNORECASE,
)
"""A field of a form."""
_MADE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:born|raised|brought up|grew up|grown up|identif(?:y|ies|ied|ying)|convert(?:ed|s|"
    rf"ing)?|voted?|votes|voting|came out as|became|become|becoming|turned|from an?|(?:marry|date|dating|"
    rf"dated) an?)[ ](?:(?:to|as|for|from|into|in|an?|the|family|being)[ ]){{0,2}}(?:{_RATHER}[ -]){{0,2}}$",
    re.IGNORECASE,
)
"""What makes somebody so; somebody is spoken of near it."""
_POLISH_RATHER: Final = (
    "(?:te[zż]|tak[zż]e|r[oó]wnie[zż]|wierz[aą]c\\w+|praktykuj[aą]c\\w+|gorliw\\w+|rodowit\\w+|etniczn\\w+|"
    "w po[lł]owie|p[oó][lł]|z pochodzenia|dumn\\w+|od urodzenia|zagorza[lł]\\w+|by[lł]\\w+|chyba|ju[zż]|nie)"
)
_POLISH_OF_ONESELF: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:jestem|jeste[sś]my|by[lł][ae]m|zosta[lł][ae]m)[ ](?:{_POLISH_RATHER}[ ]){{0,3}}$",
    re.IGNORECASE,
)
_POLISH_BEING: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:jest(?:em|e[sś]my)?|by[lł](?:[ae]m|a|i)?|s[aą]|zosta[lł](?:[ae]m|a)?|"
    rf"okaza[lł]a? si[eę])[ ](?:{_POLISH_RATHER}[ ]){{0,3}}$",
    re.IGNORECASE,
)
_POLISH_MADE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:przesz\w+ na|nawr[oó]ci\w+ si[eę] na|wysz[lł]a za|o[zż]eni[lł] si[eę] z|"
    rf"rozwiedzion\w z|jako|"
    r"z pochodzenia|(?:ten|ta|tego|tej|tym|t[aą]|nasz|nasza)(?:[ ](?:now[yaąe]\w*|m[lł]od[yaąe]\w*|"
    r"star[yaąe]\w*))?)[ ]$",
    re.IGNORECASE,
)
"""What is said of one person alone, before a noun."""
_POLISH_OF: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:narodowo[sś]ci|wyznania|pochodzenia|obywatelstwa|obywatelstwo|obywatelk[aąiięę]+|"
    rf"paszport)[ ]"
    r"(?:[^\W\d_]+[ -])?$",
    re.IGNORECASE,
)
_POLISH_KIN: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?!pani?a?[ ])(?:{KIN}|ja|ona|on|te[sś](?:ciow\w+|[cć]\w*)|szwagier\w*)(?:[ ](?:to|jest|"
    rf"by[lł]a?)|,)?[ ](?:{_POLISH_RATHER}[ ])?$",
    re.IGNORECASE,
)
_POLISH_SOMEBODY: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:jest(?:em|e[sś]my)|mam[yi]?|m[oó]j|moj\w+|nasz\w*|ona?|pan[aiuą]?|pani[aą]?|mieszkam|"
    rf"pacjent\w*|klient\w*|wnioskodaw\w*|ucze[nń]\w*|uczennic\w*|pow[oó]d\w*|os[oó]b\w*|kandydat\w*|lokator\w*|"
    rf"pracowni\w*|[sś]wiad\w*|zmar[lł]\w*|zatrzyman\w*|{KIN}|m[eę][zż]\w*|[zż]on\w*|rodzic\w*|babci\w*|dziad\w*|"
    rf"rodzin\w*){NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
_JOINED: Final = frozenset(
    ("and", "or", "i", "oraz", "half", "and half", "turned", "a", "part", "and part", "and a", "and an", "i pół")
)  # fmt: skip
"""What stands between two groups that are said of the same person."""
_THING_AFTER: Final = re.compile(
    r"[ -](?:compan|firm|start-?up|business|bank|school|universit|team|agenc|brand|restaurant|shop|store|"
    r"supplier|manufactur|website|newspaper|language|lesson|class|course|food|cuisine|dish|recipe|wine|beer|"
    r"film|movie|song|version|translation|word|law|market|branch|office|edition|embassy|government|club|"
    r"speaking|church\b|teacher|tutor|translator|speaker|learner|literature|history|grammar|toast|fries|bulldog|"
    r"shepherd|terrier|cat\b|dog\b|poet|composer|king|queen|emperor|president|prime minister|writer|novelist|"
    r"author|footballer|player|actor|actress|singer|painter|philosopher|physicist|mathematician|scientist|"
    r"politician|general\b|explorer|band|artist|director)",
    re.IGNORECASE,
)


_MEMBER: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:members?(?:ship)? (?:of|in)|join(?:ed|s|ing)?|left|quit|(?:vot|campaign|canvass|stood|"
    rf"councill?or|council|"
    r"candidate|leaflet)\w*(?: for)?|supports?|supporter of|cz[lł]onk\w+|nale[zż]\w+ do|zapisa[lł]\w* si[eę] do|"
    r"wst[aą]pi\w+ do|g[lł]os(?:uj|owa)\w+ na|dzia[lł]acz\w*|wyborc\w+|sympatyk\w*|radn\w+|kandyduj\w+ z|"
    r"pos[lł]\w+)[ ](?:(?:the|partii|young|local)[ ])?$",
    re.IGNORECASE,
)
_INVOLVED: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:i|we|s?he|my|his|her|our|m[oó]j\w*|moj\w+|nasz\w*|{KIN}|te[sś][cć]\w*|by[lł][ae]?m?|"
    rf"jestem)(?:[’']s)?{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
)
_OF_GROUPS: Final = groups.COMPOSED | groups.ANY
_PARTY: Final = re.compile(
    r"(?:Labour|Tor(?:y|ies)|Conservatives?|Lib(?:eral)? ?Dem(?:ocrat)?s?|Greens?|SNP|UKIP|Reform(?: UK)?|"
    r"Plaid(?: Cymru)?|Sinn F[eé]in|DUP|SDLP|GOP|Republicans?|Democrats?|Communists?|PiS|PO|KO|PSL|SLD|PZPR|"
    r"Lewic[ayęeo]|Razem|Konfederacj[aięą]|Platform[ayęąie]+|Polsk[aięąe]+ 2050|Nowoczesn[aeją]+|"
    r"Zielon[iyeych]+)(?![^\W_])"
)
"""Parties, as they are written, behind what makes somebody one of them."""


class _Word(NamedTuple):
    start: int
    end: int
    is_polish_noun: bool
    """One that stands in the case in which it is said of somebody."""
    is_one_person: bool
    """No word for several, and nobody's name: where the tagger takes it for one, it is said of somebody."""


class GroupRecognizer(TextRecognizer):
    """Presidio's NRP: nationality, religious or political group. The word alone is the value."""

    entity = "NRP"

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        return self._results(self.candidates(reading, tagging), reading)

    def candidates(self, reading: Reading, tagging: Tagging | None = None) -> Iterable[Candidate]:
        """Yield the words for groups that are said of somebody; a name is one where the tagger saw it."""
        text, said_until = reading.text, -1 - _BESIDE
        yield from (Candidate(*span, SURE) for span in _parties_in(text, tagging))
        for word in islice(_words_in(reading), MOST):
            listed = _is_listed(text, said_until, word.start)
            named = word.is_one_person and is_named(word.start, word.end, tagging)
            score = SURE if listed or named else _score_of(text, word, tagging)
            if score:
                said_until = word.end
                yield Candidate(word.start, word.end, score)


def _parties_in(text: str, tagging: Tagging | None) -> Iterator[tuple[int, int]]:
    """Yield where parties stand of which somebody is one."""
    for match in islice(_PARTY.finditer(text), MOST):
        start = match.start()
        before = text[max(0, start - _NEAR) : start]
        if _MEMBER.search(before) and (_INVOLVED.search(before) or is_named(start - len(before), start, tagging)):
            yield match.span()


def _words_in(reading: Reading) -> Iterator[_Word]:
    """Yield the words for groups, those of one group together."""
    folded, text = reading.folded, reading.text
    spans = [
        (start, end)
        for start, end in zip(*(side.tolist() for side in reading.words), strict=True)
        if folded[start:end] in _OF_GROUPS
    ]
    at = 0
    while at < len(spans):
        first = at
        while at + 1 < len(spans) and spans[at + 1][0] == spans[at][1] + 1 and text[spans[at][1]] in _BETWEEN:
            at += 1
        words = [(span, folded[slice(*span)]) for span in spans[first : at + 1]]
        at += 1
        if any(word in groups.ANY and _is_written_so(text, span, word) for span, word in words):
            folded_words = [word for _, word in words]
            polish = all(word in groups.POLISH_NOUNS for word in folded_words)
            is_somebody = groups.is_group(folded_words) and folded_words[-1] not in groups.SEVERAL
            yield _Word(words[0][0][0], words[-1][0][1], polish, is_somebody)


def _is_written_so(text: str, span: tuple[int, int], word: str) -> bool:
    return word not in _WITH_CAPITAL or text[span[0]].isupper()


def _is_listed(text: str, end: int, start: int) -> bool:
    """Whether nothing but "and" stands between a word that is said of somebody and the next one."""
    return start - end <= _BESIDE and text[end:start].strip(" ,/&") in _JOINED


def _score_of(text: str, word: _Word, tagging: Tagging | None) -> float:
    """Return how sure it is that a word is said of somebody, 0 where nothing says so."""
    before, after = text[max(0, word.start - _NEAR) : word.start], text[word.end : word.end + _FOLLOWING]
    if _THING_AFTER.match(after):
        return 0
    if _FIELD.search(before) or (_OWNED.search(before) and _OWN.match(after)):
        return SURE
    if _AS_ONE.search(before) and _ONE_SPEAKS.match(after):
        return SURE
    if _SOMEBODY_BY_ITSELF.match(after) and not _ANYBODY.search(before):
        return SURE
    if _FRAGMENT_AFTER.match(after) and _FRAGMENT_BEFORE.search(before):
        return SURE
    apposed = _APPOSED.search(before)
    if apposed is not None and (
        apposed["name"] is None or is_named(word.start - len(before) + apposed.start(), word.start, tagging)
    ):
        return SURE
    being = _BEING.search(before)
    if being is not None and (being["other"] is None or _is_person(being["other"], word, before, tagging)):
        return SURE
    named = is_named(word.start - len(before), word.start, tagging) or is_named(word.end, word.end + _NAMED, tagging)
    if (SOMEBODY.search(before) or named) and (_STATUS.match(after) or _MADE.search(before)):
        return SURE
    if named or _POLISH_SOMEBODY.search(before):
        polish = _POLISH_BEING.search(before) if word.is_polish_noun else _POLISH_OF.search(before)
    else:
        polish = _POLISH_OF_ONESELF.search(before) if word.is_polish_noun else None
    if polish is not None or (word.is_polish_noun and _POLISH_MADE.search(before)):
        return SURE
    if word.is_polish_noun and (_POLISH_KIN.search(before) or _is_beside_name(text, word, tagging)):
        return BESIDE_NAMES
    return 0


def _is_person(said: str, word: _Word, before: str, tagging: Tagging | None) -> bool:
    """Whether what "is" so is somebody: a word for one, or a name."""
    if _PERSONAL.match(said):
        return True
    start = word.start - len(before) + before.rindex(said)
    return is_named(start, start + len(said), tagging)


def _is_beside_name(text: str, word: _Word, tagging: Tagging | None) -> bool:
    """Whether a name stands right beside the word, parted by a comma: "ta Francuzka, Aurélie"."""
    follows = text.startswith(", ", word.end) and is_named(word.end, word.end + _BESIDE, tagging)
    return follows or (text.endswith(", ", 0, word.start) and is_named(word.start - _BESIDE, word.start, tagging))
