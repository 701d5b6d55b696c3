"""Given names of many languages, and the Polish ones in every case that they are declined in."""

from __future__ import annotations

import unicodedata
from typing import Final

from app.pii.config import NamesConfig
from app.pii.words import words

NOT_NAMES: Final = words(
    "the a an and or but if in on at to from of for with by as is are was my your his her our their this that hi "
    "hello dear thanks regards please re subject monday tuesday wednesday thursday friday saturday sunday january "
    "february march april may june july august september october november december street road avenue city name "
    "phone email mail address date order invoice id iban pesel nip regon krs dob ssn nhs tel mob fax usa uk eu "
    "english polish french german spanish american british ltd inc llc gmbh sp vat pdf csv json api url http "
    "https ceo cto hr it ok who what when where why how can could will would should i you he she we they it do "
    "does did not no yes i w z na do od dla oraz lub albo nie tak ul al os pl nr dzień dobry dzien witam cześć "
    "czesc szanowni państwo panie pani pan panu pana proszę prosze pozdrawiam dziękuję polska polski polskie "
    "warszawa kraków dane adres telefon konto numer faktura umowa imię imie nazwisko urodzony urodzona kontakt "
    "dowód dowod seria poczta miasto kod styczeń stycznia marca maja sierpień poniedziałek wtorek środa czwartek "
    "piątek asystencie doktorze doktor profesor mecenas dyrektor prezes redaktor kierownik bóg boże jezus młody "
    "młoda mr mrs ms miss mx dr prof sir dame madam professor doctor fr sister brother uncle aunt grandad grandma "
    "granny mum mom dad cheers best yours sincerely profesorze mgr inż lek mec ks box suite apt jestem tu drogi droga "
    "drodzy kochany kochana wujku wujek wujka ciociu ciocia babciu dziadku mamo tato sąsiedzie król króla "
    "królowa przekazać dz u poz art ust pkt "
    "urząd urzędu bank banku szpital szpitala przychodnia przychodni firma sklep sklepu hotel hotelu policja policji "
    "straż straży pogotowie pogotowia infolinia infolinii biuro biura klinika kliniki "
    "call ask tell contact meet text remind visit invite book pay send give show help let make write read reply "
    "forward inform notify message ping greet congratulate introduce add remove delete update check find get put take "
    "bring follow see watch hear thank interview hire promote schedule cancel refund charge assign transfer welcome "
    "consult zadzwoń zadzwon zapytaj poproś popros powiedz napisz wyślij wyslij przekaż przekaz spotkaj zaproś zapros "
    "przypomnij poinformuj powiadom odwiedź odwiedz sprawdź sprawdz znajdź znajdz dodaj usuń usun pomóż pomoz daj "
    "bonjour gruß grüße mrn cv oskarżony oskarżona oskarżonego oskarżonej oskarżonemu pozwany pozwana pozwanego "
    "pozwanej powód powódka powoda powódki świadek świadka poszkodowany poszkodowana pokrzywdzony pokrzywdzona "
    "podejrzany podejrzana "
    "pokaż pokaz umów umow zapisz odpisz oddzwoń oddzwon podziękuj podziekuj pogratuluj zatrudnij zapłać zaplac "
)

_HARD_ENDINGS: Final = {
    "ch": "sze", "k": "ce", "g": "dze", "r": "rze", "t": "cie", "d": "dzie", "ł": "le", "n": "nie", "m": "mie",
    "p": "pie", "w": "wie", "b": "bie", "z": "zie", "s": "sie", "f": "fie",
}  # fmt: skip
"""Locative of hard stems (Polish school grammar: alternations before -e)."""


def feminine_forms(name: str) -> set[str]:
    """Return the singular case forms of a Polish given name in -a, or of a man's name declined like one (Kuba)."""
    if not name.endswith("a"):
        return {name}
    stem = name[:-1]
    forms = {name, stem + "ę", stem + "ą", stem + "o"}
    if stem.endswith(("i", "j")):
        soft = stem[:-1] if stem.endswith("j") and stem[-2:-1] in set("aeiouy") else stem
        forms |= {soft + "i", stem + "u", stem[:-1] + "i", stem[:-1] + "u", stem + "i"}
    elif stem.endswith("l"):
        forms |= {stem + "i", stem + "u"}
    else:
        forms |= {stem + ("i" if stem[-1] in "kg" else "y")}
        for ending, replacement in _HARD_ENDINGS.items():
            if stem.endswith(ending):
                forms.add(stem[: -len(ending)] + replacement)
                break
    return forms


def masculine_forms(name: str) -> set[str]:
    """Return the singular case forms of a Polish man's given name."""
    if name.endswith("a"):
        return feminine_forms(name)
    if name.endswith(("i", "y")):
        return {name, *(name + ending for ending in ("ego", "emu", "m"))} | (
            {name[:-1] + ending for ending in ("ego", "emu", "ym", "im")} if name.endswith("y") else set()
        )
    stem = name
    if name.endswith("eł"):
        stem = name[:-2] + "ł"
    elif name.endswith("ek"):
        stem = name[:-3] + {"ń": "ni"}.get(name[-3], name[-3]) + "k"
        stem = stem.removesuffix("ik") + "k" if name.endswith("iek") else stem
    elif name.endswith("iec"):
        stem = name[:-3] + "ńc"
    elif name.endswith("ś"):
        stem = name[:-1] + "si"
    forms = {name, stem + "a", stem + "owi", stem + ("iem" if stem[-1] in "kg" else "em"), stem + "u"}
    for ending, replacement in {**_HARD_ENDINGS, "ch": "chu", "k": "ku", "g": "gu"}.items():
        if stem.endswith(ending):
            forms.add(stem[: -len(ending)] + replacement)
            break
    return forms


def folded(name: str) -> str:
    """Lower-case a name and take its diacritics away, as people do who type without them."""
    decomposed = unicodedata.normalize("NFD", name.lower().replace("ł", "l"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


class GivenNames:
    """Looks up a capitalised word among the given names of all languages, with and without diacritics."""

    def __init__(self, names: NamesConfig) -> None:
        forms = {name.lower() for name in names.english}
        for name in names.polish_feminine:
            forms |= feminine_forms(name.lower())
        for name in names.polish_masculine:
            forms |= masculine_forms(name.lower())
        ambiguous = frozenset(name.lower() for name in names.ambiguous)
        known = frozenset(forms | {folded(form) for form in forms} | ambiguous) - NOT_NAMES
        self._ranks = {form: 2 if form in ambiguous else 1 for form in known}

    def __contains__(self, word: str) -> bool:
        return word.lower() in self._ranks

    def rank(self, word: str) -> int:
        """Return 0 for a word that is no name, 1 for a name, 2 for one that is also a word, a month or a place."""
        return self._ranks.get(word.lower(), 0)
