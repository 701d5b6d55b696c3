"""Words for people, near which an age or a nationality is somebody's."""

from __future__ import annotations

import re
from typing import Final

from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM
from app.pii.tagger import Tagging

_SURELY_PERSON: Final = 0.5
"""Probability from which a word is somebody's name."""

KIN: Final = (
    "(?:son|daughter|brother|sister|mother|father|mom|mum|mummy|dad|daddy|husband|wife|child|kid|nephew|niece|cousin|"
    "aunt|uncle|grand(?:mother|father|ma|pa|son|daughter|child)|granny|grandad|gran|nan|nana|"
    "step(?:son|daughter|m[ou]m|dad)|(?:sister|brother)-in-law|twins?|partner|girlfriend|boyfriend|fianc[eé]e?|"
    "friend|neighbou?r|flatmate|roommate|colleague|boss|teacher|patient|client|claimant|applicant|tenant|"
    "syn(?:ek|a|owi|em)?|c[oó]r(?:ka|ki|ce|k[ęe]|eczka)|brat(?:a|u|em)?|siostr(?:a|y|ze|[ęe])|matk(?:a|i|[ęe])|"
    "mam(?:a|y|[ęe])|ojc(?:iec|a|u)|tat(?:a|y|o)|m[aą][zż](?:a|owi)?|[zż]on(?:a|y|ie|[ęe])|dzieck(?:o|a|u)|"
    "babci(?:a|i)|dziad(?:ek|ka|kowi)|wnucz?(?:ek|ka|ki|k[ęe])|kuzyn(?:ka|a|ki)?|cioci?a|wuj(?:ek)?|"
    "koleg(?:a|i)|kole[zż]ank(?:a|i)|partner(?:ka)?|s[aą]siad(?:ka)?|pacjent(?:ka|a|ki)?|klient(?:ka|a|ki)?|pani?a?|"
    "synow(?:a|ej|[aą])|zi[eę][cć](?:ia|iem)?|ch[lł]opak(?:a|iem)?|narzeczon[aey]\\w*)"
)
PERSON: Final = (
    f"(?:{KIN}|males?|females?|m[ae]n|wom[ae]n|boys?|girls?|guys?|lad(?:y|ies)|gentlem[ae]n|persons?|baby|toddler|"
    "teen(?:ager)?|student|pensioner|widow(?:er)?|driver|nurse|resident|m[eę][zż]czy[zź]n[aiyęeą]|kobie[tc][aiyęeą]|"
    "ch[lł]opi?e?c\\w*|dziewczyn\\w*|uczni?[eaó]\\w*|kierowc\\w+|mieszka[nń]\\w+|emeryt\\w*|student\\w*)"
)
SOMEBODY: Final = re.compile(rf"{NOT_AFTER_ALNUM}(?:i|s?he|we|they|{KIN}){NOT_BEFORE_ALNUM}", re.IGNORECASE)


def is_named(start: int, end: int, tagging: Tagging | None, least: float = _SURELY_PERSON) -> bool:
    """Whether the tagger takes a word of a stretch for somebody's name, with a probability of `least` or more."""
    return tagging is not None and tagging.person_in(start, end) >= least
