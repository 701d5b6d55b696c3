"""What each recognizer finds, and near-misses beside it: tables of a text and the values found in it."""

from __future__ import annotations

import pytest

from app.pii.engine import PiiEngine


def found(engine: PiiEngine, entity: str, text: str, language: str = "en") -> list[str]:
    report = engine.scan(text, language, []).report
    return [text[each.start : each.end] for each in report.entities if each.type == entity]


TABLE = [
    ("PL_PESEL", "PESEL 44051401359", ["44051401359"]),
    ("PL_PESEL", "44051401359 without its name", ["44051401359"]),
    ("PL_PESEL", "PESEL 44051401358", []),
    ("PL_PESEL", "id 144051401359", []),
    ("PL_PESEL", "hash a44051401359f", []),
    ("PL_PESEL", "<PERSON_44051401359>", ["44051401359"]),
    ("PL_NIP", "NIP 605-793-91-97", ["605-793-91-97"]),
    ("PL_NIP", "NIP PL 541 700 67 52", ["PL 541 700 67 52"]),
    ("PL_NIP", "NIP 8066008619", ["8066008619"]),
    ("PL_NIP", "order 8066008619", []),
    ("PL_NIP", "NIP 605-793-91-98", []),
    ("PL_REGON", "REGON 262726484", ["262726484"]),
    ("PL_REGON", "REGON: 37886872574912", ["37886872574912"]),
    ("PL_REGON", "order 262726484", []),
    ("PL_REGON", "REGON 262726485", []),
    ("PL_REGON", "REGON 16118411064380, BDO 000114092", ["16118411064380"]),
    ("PL_ID_CARD", "dowód osobisty ATW752294", ["ATW752294"]),
    ("PL_ID_CARD", "ID card CXR 552695", ["CXR 552695"]),
    ("PL_ID_CARD", "dowód AYR349314", []),
    ("PL_ID_CARD", "article ATW752294", []),
    ("EMAIL_ADDRESS", "write to anna.nowak+x@mail.example.com.", ["anna.nowak+x@mail.example.com"]),
    ("EMAIL_ADDRESS", "<ann@example.org>", ["ann@example.org"]),
    ("EMAIL_ADDRESS", "ann@corp.local", ["ann@corp.local"]),
    ("EMAIL_ADDRESS", "npm install left-pad@1.3.0", []),
    ("EMAIL_ADDRESS", "@ann said hi", []),
    ("EMAIL_ADDRESS", "git clone git@github.com:me/it", []),
    ("EMAIL_ADDRESS", "a@b", []),
    ("CREDIT_CARD", "card 4232 6865 6355 1504", ["4232 6865 6355 1504"]),
    ("CREDIT_CARD", "4066-3839-1296-1052", ["4066-3839-1296-1052"]),
    ("CREDIT_CARD", "Amex 3783 147582 89994", ["3783 147582 89994"]),
    ("CREDIT_CARD", "card 4232 6865 6355 1505", []),
    ("CREDIT_CARD", "card 1111 1111 1111 1111", []),
    ("IBAN_CODE", "pay to GB03 NWBK 3593 1757 8138 37", ["GB03 NWBK 3593 1757 8138 37"]),
    ("IBAN_CODE", "22 1240 1125 8056 5354 9225 0487", ["22 1240 1125 8056 5354 9225 0487"]),
    ("IBAN_CODE", "konto PL42105010251450845813655301.", ["PL42105010251450845813655301"]),
    ("IBAN_CODE", "GB41 LOYD 3096 3412 7755 08", []),
    ("IBAN_CODE", "79 1020 1026 7928 5863 9153 1544", []),
    ("IP_ADDRESS", "from 203.0.113.205 port 22", ["203.0.113.205"]),
    ("IP_ADDRESS", "from 2001:db8::8f3:1c", ["2001:db8::8f3:1c"]),
    ("IP_ADDRESS", "build 7.4.1.209", []),
    ("IP_ADDRESS", "localhost is 127.0.0.1", []),
    ("IP_ADDRESS", "at 12:30:45", []),
    ("IP_ADDRESS", "300.1.2.3", []),
    ("US_SSN", "SSN 526-91-0384", ["526-91-0384"]),
    ("US_SSN", "her SSN is 526910384", ["526910384"]),
    ("US_SSN", "part 526910384", []),
    ("US_SSN", "SSN 666-91-0384", []),
    ("US_SSN", "SSN 526-00-0384", []),
    ("URL", "https://bob:hunter22@example.com/x", ["https://bob:hunter22@example.com/x"]),
    ("URL", "see https://example.com/r?token=abcdef123.", ["https://example.com/r?token=abcdef123"]),
    ("URL", "see https://example.com/page?id=5", []),
    ("URL", "see https://example.com:8080/@ann", []),
    ("CRYPTO", "to 1N9MHeENoUigTjAHeNbB23jayhPTr4yneg", ["1N9MHeENoUigTjAHeNbB23jayhPTr4yneg"]),
    (
        "CRYPTO",
        "bc1qc8e6dq3npdtexzfdusq4jcyy9d0qhhagw076nx",
        ["bc1qc8e6dq3npdtexzfdusq4jcyy9d0qhhagw076nx"],
    ),
    ("CRYPTO", "to 1N9MHeENoUigTjAHeNbB23jayhPTr4ynef", []),
    ("PHONE_NUMBER", "+48 605 118 902", ["+48 605 118 902"]),
    ("PHONE_NUMBER", "(+48) 880 14 14 39", ["(+48) 880 14 14 39"]),
    ("PHONE_NUMBER", "ring 919.555.0126", ["919.555.0126"]),
    ("PHONE_NUMBER", "mum is on 07700 900 091 now", ["07700 900 091"]),
    ("PHONE_NUMBER", "call 512 908 447 or 662 015 339", ["512 908 447", "662 015 339"]),
    ("PHONE_NUMBER", "tel. 9472 7916", ["9472 7916"]),
    ("PHONE_NUMBER", "Order 118-4402918-6630051", []),
    ("PHONE_NUMBER", "invoice 605 118 902", []),
    ("PHONE_NUMBER", "on 2024-05-02 at 12:30", []),
    ("PHONE_NUMBER", "call it 1234567", ["1234567"]),
    ("PHONE_NUMBER", "the year 1234567", []),
    ("PERSON", "call Anna Nowak today", ["Anna Nowak"]),
    ("PERSON", "Dear Ms Okafor,", ["Okafor"]),
    ("PERSON", "my name is Malakai", ["Malakai"]),
    ("PERSON", "Tenant: Valbona Hoxha", ["Valbona Hoxha"]),
    ("PERSON", "It is due in May", []),
    ("PERSON", "What is the capital of France?", []),
    ("PERSON", "#define MAX_BUF 4096", []),
]


@pytest.mark.parametrize(("entity", "text", "values"), TABLE)
def test_english(engine: PiiEngine, entity: str, text: str, values: list[str]) -> None:
    assert found(engine, entity, text) == values


@pytest.mark.parametrize(
    ("entity", "text", "values"),
    [
        ("PERSON", "Zadzwoń do Anny Lewandowskiej w sprawie umowy", ["Anny Lewandowskiej"]),
        ("PERSON", "Spotkałem się z Marcinem Zielińskim", ["Marcinem Zielińskim"]),
        ("PERSON", "Panie Wojciechu, dziękuję", ["Wojciechu"]),
        ("PERSON", "nazywam sie Zaneta Wrona-Lis", ["Zaneta Wrona-Lis"]),
        ("PERSON", "Pacjent: Olgierd Bury", ["Olgierd Bury"]),
        ("PERSON", "Mieszkam przy ul. Marii Konopnickiej", []),
        ("PERSON", "Jaka jest stolica Francji?", []),
        ("PERSON", "Zrób refactor tego SQL", []),
        ("PHONE_NUMBER", "kom. 665.410.228", ["665.410.228"]),
        ("PHONE_NUMBER", "tel. 22 774 03 55", ["22 774 03 55"]),
        ("PHONE_NUMBER", "numer zamówienia 605 118 902", []),
    ],
)
def test_polish(engine: PiiEngine, entity: str, text: str, values: list[str]) -> None:
    assert found(engine, entity, text, "pl") == values
