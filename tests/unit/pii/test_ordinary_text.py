"""Ordinary business text is left alone: prices, order numbers, versions, years, timestamps, hashes, UUIDs."""

from __future__ import annotations

import pytest

from app.pii.engine import PiiEngine

ENGLISH = [
    "The new plan costs $1,249.99 a month, or $12,000 a year if you pay up front.",
    "Invoice 2024/03/0871 over 14,560.00 EUR is due within 30 days.",
    "Your order 118-4402918-6630051 was split into two parcels.",
    "Ticket #4418273 is a duplicate of #4418270.",
    "We moved from version 3.11.7 to 3.12.1 and build 20240517.4 passed.",
    "Firmware 7.4.1.209 fixes the restart loop of firmware 7.4.1.188.",
    "The outage began at 2024-05-17T08:41:12Z and ended at 2024-05-17T09:03:55.120+02:00.",
    "Revenue grew by 12.5 % in 2023, after 8.1 % in 2022 and 4 % in 2021.",
    "Commit 9f2c1e7b0a4d5c6e8f90123456789abcdef01234 broke the nightly job.",
    "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "The job id is 550e8400-e29b-41d4-a716-446655440000, please restart it.",
    "Room 1204 seats 40 people and is free from 14:00 to 15:30.",
    "SKU 884-22-1190 is out of stock; 1,250 pieces arrive on 12 August 2024.",
    "The ISBN of the handbook is 978-3-16-148410-0.",
    "Set max_tokens: 4096, temperature=0.7 and timeout_ms = 30000.",
    "Port 8443 forwards to 5432, and 6379 stays closed.",
    "The file report_2024_q3_final_v2.xlsx has 18 sheets and 24,518 rows.",
    "Use ISO 8601, RFC 9457 and EN 16931 in the interface description.",
    "Contract no. PO-7781-AC covers 3 years and 450 licences.",
    "Please ship 12 pallets of 40 boxes, 18.5 kg each, by week 32.",
    "The meeting on 3 March 2025 covers chapters 4 to 11, pages 120-345.",
    "Our fiscal year 2024 starts on 1 April; Q1 closes on 30 June 2024.",
    "Error 0x80070057 at line 1183 of module 14, retry 3 of 5.",
    "The container image is registry.example.com/shop/api:1.24.3-alpine.",
    "It took 1,234,567 iterations and 98.76 seconds on 16 cores.",
    "The password policy asks for 12 characters and a change every 90 days.",
    "The API key is rotated every 30 days; the token expires after 3600 seconds.",
    "The company was founded in 1987 and has 2,300 employees in 14 countries.",
    "Two thirds of drivers hold a licence; the car park has 250 places.",
    "The exchange rate was 4.3127 on Monday and 4.2988 on Tuesday.",
    "Transaction 000123456789 was refunded in full.",
    "Please reset my password before the demo at 10 on Thursday.",
    "The bearer of this voucher gets 15 % off, valid through 12/2025.",
]
POLISH = [
    "Nowy abonament kosztuje 1 249,99 zł miesięcznie albo 12 000 zł rocznie.",
    "Faktura FV/2024/03/0871 na kwotę 14 560,00 EUR jest płatna w ciągu 30 dni.",
    "Zamówienie nr 4402918663 zostało podzielone na dwie paczki.",
    "Zgłoszenie 4418273 jest powtórzeniem zgłoszenia 4418270.",
    "Przeszliśmy z wersji 3.11.7 na 3.12.1, a kompilacja 20240517.4 jest zielona.",
    "Awaria zaczęła się 2024-05-17T08:41:12Z i trwała 22 minuty.",
    "Przychody wzrosły o 12,5 % w 2023 roku, po wzroście o 8,1 % w 2022.",
    "Zatwierdzenie 9f2c1e7b0a4d5c6e8f90123456789abcdef01234 zepsuło testy.",
    "Identyfikator zadania to 550e8400-e29b-41d4-a716-446655440000.",
    "Sala 1204 mieści 40 osób i jest wolna od 14:00 do 15:30.",
    "Termin składania ofert mija 12 sierpnia 2024 r. o godzinie 12:00.",
    "Ustawa z dnia 29 sierpnia 1997 r. o ochronie danych osobowych, Dz. U. z 2016 r. poz. 922.",
    "Artykuł 15 ust. 1 pkt 3 stosuje się do umów zawartych po 1 stycznia 2023 r.",
    "Na placu budowy pracuje 300 osób, a na ulicy stoi 5 samochodów.",
    "Wysyłamy 12 palet po 40 kartonów, każdy waży 18,5 kg.",
    "Plik raport_2024_q3_v2.xlsx ma 18 arkuszy i 24 518 wierszy.",
    "Norma PN-EN 16931 opisuje 165 pól faktury.",
    "Strony 10-120 podręcznika czytamy do piątku, a 121-345 do maja.",
    "Hasło musi mieć co najmniej 12 znaków i jest zmieniane co 90 dni.",
    "Kurs euro wyniósł 4,3127 w poniedziałek i 4,2988 we wtorek.",
    "Spółka działa od 1987 roku i zatrudnia 2300 pracowników w 14 krajach.",
    "Silnik ma 150 KM i 320 Nm, a zbiornik mieści 55 litrów.",
    "Samochód spala 6,5 l na 100 km i kosztuje 89 900 zł.",
    "Ustaw limit na 4096 tokenów, a czas oczekiwania na 30000 ms.",
    "Port 8443 kieruje na 5432, a 6379 pozostaje zamknięty.",
    "Pociąg IC 3510 odjeżdża o 7:25 z peronu 3 i jedzie 2 godziny 40 minut.",
    "Działka ma 1250 m2, a dom 148 m2 i dwa piętra.",
    "Podaj kod błędu 0x80070057 i numer wiersza 1183.",
    "Umowa nr 118/22 obowiązuje 24 miesiące od 2 września 2024 r.",
    "W 2024 roku odbyły się 34 szkolenia dla 1 250 uczestników.",
    "Mecz skończył się wynikiem 3:2, a widzów było 45 320.",
    "Zmieniłem hasło i nadal nie mogę się zalogować na konto.",
    "Prawo jazdy kategorii B ma 60 procent kandydatów po pierwszym egzaminie.",
]

CODE = [
    (
        "from typing import List\n"
        "\n"
        "from ledger.walk.offsets import Window\n"
        "\n"
        "def to_window(offset_x, qsub_a):\n"
        "    node.is_reachable = True\n"
        "    return Window(offset_x)"
    ),
    (
        "import torch\n"
        "\n"
        "TABLE = {\n"
        '    ledger.asinh: "torch.asinh",\n'
        '    ledger.atan_2: "torch.atan_2",\n'
        "}\n"
        "\n"
        "def convert(embed_dim):\n"
        "    return TABLE[embed_dim]"
    ),
    (
        "class SnapshotResponse:\n"
        "    pass\n"
        "\n"
        "from shop.snapshots import (\n"
        "    SnapshotsResource,\n"
        "    AsyncSnapshotsResourceWithRawResponse,\n"
        ")"
    ),
    (
        "const TensorShape& input_shape = ctx.input_shape();\n"
        "const int64_t batch_n = input_shape.dim(0);\n"
        "if (batch_n < 1) {\n"
        "  return Status::bad_rank();\n"
        "}"
    ),
    (
        "def on_start(self, ack_on_close: bool) -> None:\n"
        "    if ack_on_close:\n"
        "        self.overrides[key] = override_model\n"
        "    for name in values():\n"
        "        self.walk_ha(name)"
    ),
    (
        "accountId = request.args.get('accountId')\n"
        "userName_field = form.find('userName_field')\n"
        "loginUrl_2 = build(accountId)\n"
        "return loginUrl_2"
    ),
]
"""Names of functions, fields and modules look like user names."""


@pytest.mark.parametrize("text", ENGLISH)
def test_english(engine: PiiEngine, text: str) -> None:
    assert engine.scan(text, "en", []).redacted_text == text


@pytest.mark.parametrize("text", POLISH)
def test_polish(engine: PiiEngine, text: str) -> None:
    assert engine.scan(text, "pl", []).redacted_text == text


@pytest.mark.parametrize("text", ENGLISH + POLISH)
def test_whatever_language_is_guessed(engine: PiiEngine, text: str) -> None:
    assert engine.scan(text, None, []).report.count == 0


@pytest.mark.parametrize("text", CODE)
def test_code(engine: PiiEngine, text: str) -> None:
    assert engine.scan(text, None, []).redacted_text == text


def test_who_is_named_in_code_is_found(engine: PiiEngine) -> None:
    text = "# TODO(v.subramanian_7): drop it\ndef to_window(offset_x):\n    return Window(offset_x)"
    assert engine.scan(text, None, []).redacted_text == text.replace("v.subramanian_7", "<USERNAME_1>")
