"""Tells a password of several words from a sentence about passwords, English and Polish."""

from __future__ import annotations

import re
from typing import Final

from app.pii.recognizers.randomness import is_placeholder
from app.pii.words import words

FEWEST_WORDS: Final = 3
"""Of one without quotation marks: two words behind a label are a button, a heading or a note."""
_OF_A_SENTENCE: Final = words(
    # What every sentence is held together by.
    "a an the and or but if of for to from in on at by with without as is are was were be been being am it its it's "
    "this that these those there here your my our their his her you we they he she i i'm i'll me us them must should "
    "shall can can't cannot could may might will would do does did don't done have has had not no yes none any all "
    "each every same again once only just than so too very more less up out off per via until before after when while "
    "where what which who how why please also still now below above and/or "
    "i w we z ze o od do na po przy dla przez pod nad za oraz lub albo ale że ze żeby zeby aby jak jaki jakie jakiego "
    "co kto gdzie kiedy czy się sie mi mnie ci ciebie ma mam masz mieć miec musi muszą musisz powinno powinien może "
    "moze można mozna trzeba należy nalezy być byc jest są sa był była było bylo będzie bedzie nie tak to te ten ta "
    "tego tej tym tam tu już juz też tez jeszcze tylko bez twoje twój twoj moje mój moj nasze wasze jego jej ich "
    # What sentences and labels say of passwords.
    "ask see use used using enter type set reset change changed changes create created choose confirm repeat forgot "
    "forgotten forget remember lost unknown missing required requires requirement requirements optional invalid "
    "incorrect wrong expired expires expire strong weak short length min max minimum maximum least most char chars "
    "character characters letter letters digit digits number numbers symbol symbols upper lower uppercase lowercase "
    "case special word words password passwords passphrase passcode pin code login username user account email mail "
    "policy rule rules field hint link reminder sent send protected encrypted hashed stored hidden saved unchanged "
    "default temporary new old current previous next last first example sample placeholder redacted removed tbd todo "
    "attached separately later soon today tomorrow vault keychain manager rotation rotated updated failed successful "
    "successfully accepted rejected authentication sign signin value string none null true false expected format "
    "provided given known available match matches mismatch secret database connection server credential credentials "
    "access security text input form plain ready works working "
    "conajmniej najmniej najwyżej minimalnie maksymalnie minimum maksimum znak znaki znaków znakow liter litera litery "
    "litere literę cyfra cyfry cyfr cyfrę wielka wielkie wielka małe male wielkich małych specjalny specjalne długość "
    "dlugosc silne słabe slabe błędne bledne niepoprawne nieprawidłowe wymagane opcjonalne zmienione zmieniono zmień "
    "zmien zmiana zmiany zmienić ustaw ustawić ustawione ustawiono podaj podane wpisz wprowadź wprowadz proszę prosze "
    "zapytaj pytaj zobacz patrz sprawdź sprawdz użyj uzyj wyślę wysle wysłane wysłano wyślij prześlę przesłane podam "
    "powiem pamiętam pamietam zapomniałem zapomniałam zapomniane zapamiętaj nieznane brak ważne wazne wygasa wygasło "
    "dni dnia konto konta logowania użytkownik użytkownika hasło haslo hasła hasla hasłem haslem mailem mailu sms "
    "smsem osobno później pozniej jutro dziś dzis dzisiaj takie samo sam nowe nowego stare tymczasowe domyślne "
    "domyslne poprzednie ostatnie sejf sejfie menedżer menedżerze u dostępne dostepne otrzymasz dostaniesz znane zna "
    "poda podał podała aktywne nieaktywne wygasłe zablokowane zresetowane zresetować zresetuj dostępu dostepu działa"
)
_WORD: Final = re.compile(r"[^\s]+")
_AROUND: Final = ".,;:!?()[]{}<>\"'`„”“…*-–"
_PART_OF_A_SENTENCE: Final = re.compile(r"[.,;:?]\Z")
_SECRET: Final = re.compile(r"[0-9#$%^&*+=~_|]")
"""What words seldom hold: with one, a comma ends no part of a sentence."""


def is_passphrase(value: str, fewest_words: int) -> bool:
    """Whether words that stand where a password does are one: none of them is a sentence's or is said of passwords."""
    parts = _WORD.findall(value)
    if len(parts) < fewest_words or is_placeholder(value) or not any(map(str.isalpha, value)):
        return False
    if any(part.strip(_AROUND).lower() in _OF_A_SENTENCE for part in parts):
        return False
    return _SECRET.search(value) is not None or not any(map(_PART_OF_A_SENTENCE.search, parts))
