"""Passwords of several words behind a label, and sentences about passwords that stand in the same place."""

from __future__ import annotations

import pytest

from app.pii.engine import PiiEngine
from tests.unit.pii.test_recognizers import found

PASSPHRASES = [
    ("password: correct horse battery staple", "correct horse battery staple"),
    ("Login: anna\nPassword: Correct Horse Battery Staple.\nThanks", "Correct Horse Battery Staple"),
    ("hasło to: zielony rower 7 chmura", "zielony rower 7 chmura"),
    ("Hasło: zielony rower chmura okno\nlogin: anna", "zielony rower chmura okno"),
    ("hasło do wifi: zielony rower 7 chmura", "zielony rower 7 chmura"),
    ("Password for the vault: correct horse battery staple", "correct horse battery staple"),
    ("the wifi passphrase is: mango-tree river stone", "mango-tree river stone"),
    ("HASŁO: KONIK POLNY TRAWA 5", "KONIK POLNY TRAWA 5"),
    ("password: łąka żaba 9 staw\r\nok", "łąka żaba 9 staw"),
    ("**Password:** correct horse battery staple", "correct horse battery staple"),
    ("Password:\n  correct horse battery staple\n", "correct horse battery staple"),
    ('password = "correct horse battery staple"', "correct horse battery staple"),
    ('{"password": "zielony rower", "n": 1}', "zielony rower"),
    ("hasło = „zielony rower”", "zielony rower"),
    ('password: "Tr0ub4dor &3"', "Tr0ub4dor &3"),
    ('DB_PASSWORD="p@ss,word;1<x"', "p@ss,word;1<x"),
    ("db_pass: 'Kapusta, 7 rzep'", "Kapusta, 7 rzep"),
    ('"password": "a\\"b7Xk!x"', 'a\\"b7Xk!x'),
]
SENTENCES = [
    "password: must be at least eight characters",
    "hasło: minimum 8 znaków",
    "Password: required, 12 characters",
    "Password: see the vault entry",
    "password: ask Anna tomorrow",
    "Password: same as before",
    "password: incorrect for this account",
    "Password: reset link expired yesterday",
    "password: please contact the service desk",
    "Hasło: nie pamiętam go",
    "hasło: zapomniałem całkiem hasła",
    "hasło: wyślę osobno smsem",
    "Hasło: co najmniej jedna wielka litera i cyfra",
    "Hasło: zmienione dnia 3 maja",
    "hasło: takie jak zawsze",
    "Hasło otrzymasz mailem: sprawdź skrzynkę odbiorczą firmy",
    '"password": "Password must be at least 8 characters"',
    '{"password": "Enter your password", "confirm": "Confirm password"}',
    '"hasło": "Wpisz nowe hasło"',
    "Password:\nRemember me\nForgot your password?",
    "Username\nPassword:\nHome Products Services Contact",
    "Pass: unit tests green",
    "pwd: command unavailable here",
    "password: {{ vault password }}",
    "password: ${DB PASS WORD}",
    'raise ValueError("password: too short")',
    "password = input('Enter the password: ')",
    "password: Optional[str] = None",
]


@pytest.mark.parametrize("language", ["en", "pl"])
@pytest.mark.parametrize(("text", "value"), PASSPHRASES)
def test_a_password_of_several_words_is_found_to_its_end(
    engine: PiiEngine, text: str, value: str, language: str
) -> None:
    assert found(engine, "PASSWORD", text, language) == [value]


@pytest.mark.parametrize("language", ["en", "pl"])
@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_about_passwords_is_none(engine: PiiEngine, text: str, language: str) -> None:
    assert found(engine, "PASSWORD", text, language) == []
