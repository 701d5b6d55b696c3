"""What each recognizer finds, and near-misses beside it: tables of a text and the values found in it."""

from __future__ import annotations

import re

import pytest

from app.pii.assembly import PATTERN_RECOGNIZERS
from app.pii.engine import PiiEngine
from app.pii.reading import FARTHEST_DIGIT, Reading
from app.pii.recognizers.base import TextRecognizer
from app.pii.recognizers.phone import PhoneRecognizer
from app.pii.recognizers.vehicle_plate import VehiclePlateRecognizer
from tests.unit.pii.test_reading import TEXTS


def found(engine: PiiEngine, entity: str, text: str, language: str = "en") -> list[str]:
    report = engine.scan(text, language, []).report
    return [text[each.start : each.end] for each in report.entities if each.type == entity]


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLW5vYm9keQ"
PEM = (
    "-----BEGIN EC PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDxq7Zt0b1LmWc93RkPp\nu8Yd4sHfQe2VnJoTgKxAaRs=\n"
    "-----END EC PRIVATE KEY-----"
)

ZONE = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
NAME_LINE = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"

TABLE = [
    ("PASSPORT", f"scan: {ZONE}.", [ZONE]),
    ("PASSPORT", f"scan:\n{NAME_LINE}\n{ZONE}\n", [f"{NAME_LINE}\n{ZONE}"]),
    ("PASSPORT", f"scan: ({ZONE[:-1]}4)", []),
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
    ("CREDIT_CARD", "account PL32 4232 6865 6355 1504 7095 3333", []),
    ("CREDIT_CARD", "my card: 12 4232 6865 6355 1504", ["4232 6865 6355 1504"]),
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
    ("US_SSN", "SKU 526-91-0384 is sold out, item no. 526-91-0385 is not", []),
    ("US_SSN", "526-91-0384", ["526-91-0384"]),
    ("US_SSN", "SSN 666-91-0384", []),
    ("US_SSN", "SSN 526-00-0384", []),
    ("URL", "https://bob:hunter22@example.com/x", ["https://bob:hunter22@example.com/x"]),
    ("URL", "see https://example.com/r?token=abcdef123.", ["https://example.com/r?token=abcdef123"]),
    ("URL", "see https://example.com/page?id=5", []),
    ("URL", "see https://example.com:8080/@ann", []),
    ("URL", "I'm on https://www.linkedin.com/in/ola-nightingale/.", ["https://www.linkedin.com/in/ola-nightingale"]),
    ("URL", "profil instagram.com/lena.tanczy, pisz", ["instagram.com/lena.tanczy"]),
    ("URL", "clone https://github.com/nats-io/nats.py today", []),
    ("URL", "read https://github.com/features and x.com/explore", []),
    ("AGE", "Patient is a 38-year-old male", ["38"]),
    ("AGE", "this 12 year old girl, aged 4 then", ["12", "4"]),
    ("AGE", "My brother just turned 60", ["60"]),
    ("AGE", "He is 69 years old and she's 70 y/o.", ["69", "70"]),
    ("AGE", "I'm 34, from Leeds; my wife is 33 and tired", ["34", "33"]),
    ("AGE", '{"name": "x", "age": 41}', ["41"]),
    ("AGE", "died at the age of 90", ["90"]),
    ("AGE", "mam 15 lat, córka ma już 6 lat", ["15", "6"]),
    ("AGE", "Wiek: 45; 17-latka, 38-letni pacjent, p. Leokadia W., l. 79", ["45", "17", "38", "79"]),
    ("AGE", "Wiek 22 lata. Pacjentka lat 31. Pani Nela Czyż, 7 lat; syn (4 l.)", ["22", "31", "7", "4"]),
    ("AGE", "a pleasant 58-year-old welder, Joaquin Mendes; A&E: 14 y/o Anna Nowak", ["58", "14"]),
    ("AGE", "he's 4, he likes diggers; I'm 4, you're 3", ["4"]),
    ("AGE", "mama słucha muzyki z lat 80., 10 lat gwarancji, art. 7 l. p. 3", []),
    ("AGE", "a 10-year-old server, a 12 year old whisky", []),
    ("AGE", "The company is 25 years old, the dial turned 90 degrees", []),
    ("AGE", "You must be over 18 years old, ages 3-5, children aged 12 or under", []),
    ("AGE", "I'm 5 minutes late and 100% sure; I'm 20 pages in", []),
    ("AGE", "mam 10 lat doświadczenia, firma ma 20 lat, w wieku 18 lat lub więcej", []),
    ("AGE", "Age: 14 months, account age 2", []),
    ("AGE", "age: 340, version 34.2, turned $50", []),
    ("USERNAME", "Username: ochmiel\nRole: editor", ["ochmiel"]),
    ("USERNAME", '{"login": "ttekst", "age": 4}', ["ttekst"]),
    ("USERNAME", "Login: required field", []),
    ("USERNAME", "login: root", []),
    ("USERNAME", "// FIXME(@k_novak): leaks", ["@k_novak"]),
    ("USERNAME", "# TODO(security): rotate, TODO(b/1234): later", []),
    ("USERNAME", "user_name: str = None", []),
    ("USERNAME", "Login: psobcz14.", ["psobcz14"]),
    ("USERNAME", "my discord is moth_42 and", ["moth_42"]),
    ("USERNAME", "log in to the system today", []),
    ("USERNAME", 'File "/home/gustavsen/proj/run.py", line 4', ["gustavsen"]),
    ("USERNAME", "C:\\Users\\d.pellegrino\\src\\load.py", ["d.pellegrino"]),
    ("USERNAME", "/home/ubuntu/app and /Users/Shared/x", []),
    ("USERNAME", "ssh -p 22 rajesh_t@nas", ["rajesh_t"]),
    ("USERNAME", "ssh root@nas and git clone git@nas:x", []),
    ("USERNAME", "session opened for user tobrien(uid=1004)", ["tobrien"]),
    ("USERNAME", "<moss_witch> brb dinner", ["moss_witch"]),
    ("USERNAME", "<title> Hello </title> <answer> Yes <PERSON_1> no", []),
    ("USERNAME", "I was u/thistle_and_thorn once", ["u/thistle_and_thorn"]),
    ("USERNAME", "thanks @basia.z.lasu!", ["@basia.z.lasu"]),
    ("USERNAME", "@app.route above @dataclass and npm @types/node", []),
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
    ("IBAN_CODE", "konto 42105010251450845813655301", ["42105010251450845813655301"]),
    ("PL_PASSPORT", "passport EA8794970", ["EA8794970"]),
    ("PL_PASSPORT", "passport no. EK 8260002", ["EK 8260002"]),
    ("PL_PASSPORT", "passport EA8794971", []),
    ("PL_PASSPORT", "article EA8794970", []),
    ("PASSPORT", "my US passport 531209874", ["531209874"]),
    ("PASSPORT", '"passportNumber":"C01X00T47"', ["C01X00T47"]),
    ("PASSPORT", "passport issued 20240517", []),
    ("PASSPORT", "part C01X00T47", []),
    ("PASSPORT", "passport photos, order 4417 of 118440291", []),
    ("PASSPORT", "L898902C36UTO7408122F1204159ZE184226B<<<<<10", ["L898902C36UTO7408122F1204159ZE184226B<<<<<10"]),
    ("PASSPORT", "L898902C36UTO7408122F1204159ZE184226B<<<<<11", []),
    ("DRIVER_LICENSE", "ADEYE861235FR9TK", ["ADEYE861235FR9TK"]),
    ("DRIVER_LICENSE", "ADEYE871335FR9TK", []),
    ("DRIVER_LICENSE", "Hawaii licence H00482917", ["H00482917"]),
    ("DRIVER_LICENSE", "driver's license number: D4471902", ["D4471902"]),
    ("DRIVER_LICENSE", '"plate":"7KDL482","state":"CA","dl":"F4471902"', ["F4471902"]),
    ("DRIVER_LICENSE", "software licence H00482917", []),
    ("DRIVER_LICENSE", "ticket H00482917", []),
    ("PL_LAND_REGISTER", "deed KR1P/00642103/9", ["KR1P/00642103/9"]),
    ("PL_LAND_REGISTER", "deed KR1P/00642103/8", []),
    ("PL_KRS", "KRS 0000417725", ["0000417725"]),
    ("PL_KRS", "order 0000417725", []),
    ("UK_NINO", "NI no. SR 90 14 66 C", ["SR 90 14 66 C"]),
    ("UK_NINO", "national insurance: SR901466C", ["SR901466C"]),
    ("UK_NINO", "SKU SR901466C", []),
    ("UK_NINO", "NI no. GB 90 14 66 C", []),
    ("UK_NHS", "NHS no. 561 510 2543", ["561 510 2543"]),
    ("UK_NHS", "NHS no. 561 510 2544", []),
    ("UK_NHS", "ticket 5615102543", []),
    ("VEHICLE_PLATE", "it is CA71 GTO outside", ["CA71 GTO"]),
    ("VEHICLE_PLATE", "plate 7KDL482", ["7KDL482"]),
    ("VEHICLE_PLATE", "our car KR 5A123 is blue", ["KR 5A123"]),
    ("VEHICLE_PLATE", "model KR 5A123", []),
    ("VEHICLE_PLATE", "IN 20 USD steps, EN14 ISO", []),
    ("DATE_OF_BIRTH", "dob: 12 aug 1997", ["12 aug 1997"]),
    ("DATE_OF_BIRTH", "born on March 3rd, 1990", ["March 3rd, 1990"]),
    ("DATE_OF_BIRTH", '"dateOfBirth":"1994-12-05"', ["1994-12-05"]),
    ("DATE_OF_BIRTH", "DOB 01/02/1990, admitted 02/10/2023", ["01/02/1990"]),
    ("DATE_OF_BIRTH", "meeting on 12 August 1997", []),
    ("DATE_OF_BIRTH", "Darwin was born on 12 February 1809", []),
    ("DATE_OF_BIRTH", "born 2024-13-40", []),
    ("MAC_ADDRESS", "MAC a4:5e:60:c1:7b:09 drops", ["a4:5e:60:c1:7b:09"]),
    ("MAC_ADDRESS", "00-1B-44-11-3A-B7", ["00-1B-44-11-3A-B7"]),
    ("MAC_ADDRESS", "port 001b.4411.3ab7", ["001b.4411.3ab7"]),
    ("MAC_ADDRESS", "ff:ff:ff:ff:ff:ff", []),
    ("MAC_ADDRESS", "SHA a4:5e:60:c1:7b:09:11:22", []),
    ("MAC_ADDRESS", "at 12:30:45", []),
    ("STREET_ADDRESS", "at 42 Alder Rd, Poole BH12 4BA.", ["42 Alder Rd, Poole BH12 4BA"]),
    ("STREET_ADDRESS", "4412 Sycamore Hollow Dr, Durham, NC 27705", ["4412 Sycamore Hollow Dr, Durham, NC 27705"]),
    ("STREET_ADDRESS", "Flat 2, 60 Beaufort Street, Perth WA 6050", ["Flat 2, 60 Beaufort Street, Perth WA 6050"]),
    ("STREET_ADDRESS", "3907 Calle Abeto NW, Albuquerque, NM 87104", ["3907 Calle Abeto NW, Albuquerque, NM 87104"]),
    ("STREET_ADDRESS", "a flat at 12a Tite Street in Chelsea", ["12a Tite Street"]),
    ("STREET_ADDRESS", "i live at 17 sandpiper drive", ["17 sandpiper drive"]),
    ("STREET_ADDRESS", "PSC 0725, Box 6031\nAPO AP 99241", ["PSC 0725, Box 6031\nAPO AP 99241"]),
    ("STREET_ADDRESS", "write to P.O. Box 1149", ["P.O. Box 1149"]),
    ("STREET_ADDRESS", "Gneisenaustraße 81, 10961 Berlin", ["Gneisenaustraße 81, 10961 Berlin"]),
    ("STREET_ADDRESS", "31 rue Oberkampf", ["31 rue Oberkampf"]),
    ("STREET_ADDRESS", "she lives at 172 Maneeži 75", ["172 Maneeži 75"]),
    ("STREET_ADDRESS", "the 2008 Wall Street crash", []),
    ("STREET_ADDRESS", "a 10 minute drive, then 3 ways to park", []),
    ("STREET_ADDRESS", "Oxford Street and Abbey Road", []),
    ("STREET_ADDRESS", "chapter 172 Results 75", []),
    ("ZIP_CODE", "postcode SE15 4QL", ["SE15 4QL"]),
    ("ZIP_CODE", "my zip code is 35350", ["35350"]),
    ("ZIP_CODE", "He lives near Tucson, AZ 85705 now", ["85705"]),
    ("ZIP_CODE", "order 35350 of 10961", []),
    ("ZIP_CODE", "at B2B 4AM, in A4 2PM", []),
    ("API_KEY", "key AKIA" + "Q3EGUZ7XTPLMNO5R in use", ["AKIA" + "Q3EGUZ7XTPLMNO5R"]),
    ("API_KEY", "AKIA" + "A" * 16, []),
    ("API_KEY", "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", ["ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"]),
    ("API_KEY", "sk-ant-" + "api03-x7Kq2LmX7vBt4RzW1pHd8YcN", ["sk-ant-" + "api03-x7Kq2LmX7vBt4RzW1pHd8YcN"]),
    ("API_KEY", "xoxb-" + "118842-77qPzLmT0vKe", ["xoxb-" + "118842-77qPzLmT0vKe"]),
    ("API_KEY", "pk_live_" + "51Hx9sKd02LmQpRtVw7Yb3", ["pk_live_" + "51Hx9sKd02LmQpRtVw7Yb3"]),
    ("API_KEY", "pip install sk-learn-pipelines-for-tabular-data2", []),
    ("API_KEY", "branch app-prod-euwest1cluster2024", []),
    ("API_KEY", JWT, [JWT]),
    ("API_KEY", JWT.replace("eyJhbGci", "eyJhbGcj"), []),
    ("API_KEY", f"the key:\n{PEM}\nis it safe?", [PEM]),
    ("API_KEY", PEM.rpartition("\n")[0] + "\nThanks", [PEM.rpartition("\n")[0]]),
    ("API_KEY", "-----BEGIN PUBLIC KEY-----\nMC4CAQAwBQYDK2VwBCIEIDx\n-----END PUBLIC KEY-----", []),
    ("API_KEY", "postgres://app:Kw4drat-77@db.example.net:5432/x", ["postgres://app:Kw4drat-77@db.example.net:5432/x"]),
    ("API_KEY", "postgres://app@db.example.net:5432/x", []),
    ("API_KEY", "postgres://app:${PASSWORD}@db.example.net/x", []),
    ("API_KEY", "Endpoint=x;AccountKey=Zm9vYmFyYmF6;Suffix=y", ["Zm9vYmFyYmF6"]),
    ("API_KEY", 'curl -H "Authorization: Basic dXNlcjpwYXNz"', ["dXNlcjpwYXNz"]),
    ("API_KEY", "Authorization: Bearer <token>", []),
    ("API_KEY", "Authorization: Basic authentication", []),
    ("API_KEY", "the bearer is entitled to 25 shares", []),
    ("API_KEY", "JWT_SECRET=umber-kettle-41-NORTH-vane", ["umber-kettle-41-NORTH-vane"]),
    ("API_KEY", 'api_key: "f3Qp81xZt0LmRv"', ["f3Qp81xZt0LmRv"]),
    ("API_KEY", "token = get_token(client2, retry3)", []),
    ("API_KEY", "api_key = os.environ['SHOP_KEY_2']", []),
    ("API_KEY", "max_tokens: 4096, token_type: identifier", []),
    ("API_KEY", "api_key=your-api-key-1234", []),
    ("PASSWORD", 'haslo = "Bigos&Kapusta9"', ["Bigos&Kapusta9"]),
    ("PASSWORD", "SMTP_PASS=Pelican#Dusk88", ["Pelican#Dusk88"]),
    ("PASSWORD", '"wpa_key": "tulip-Gravel-77-ox"', ["tulip-Gravel-77-ox"]),
    ("PASSWORD", 'password: "correcthorse"', ["correcthorse"]),
    ("PASSWORD", "my password is hunter22.", ["hunter22"]),
    ("PASSWORD", "set the laptop password to ilove-Mangos!7 please", ["ilove-Mangos!7"]),
    ("PASSWORD", "Password: required, 12 characters", []),
    ("PASSWORD", "password = getpass()", []),
    ("PASSWORD", "password=$DB_PASSWORD2", []),
    ("PASSWORD", "give the password to admin01 at once", []),
    ("PASSWORD", "please pass the report_2024 to them", []),
    ("PASSWORD", "password reset link 2024", []),
    ("IP_ADDRESS", "from 2a02:a31b:8440:7a00::1f2 over ssh", ["2a02:a31b:8440:7a00::1f2"]),
    ("PERSON", "call Anna Nowak today", ["Anna Nowak"]),
    ("PERSON", "Dear Ms Okafor,", ["Okafor"]),
    ("PERSON", "Mrs. Barbara Yudina Apt. 675 62314 Mellemvej 32", ["Barbara Yudina"]),
    ("PERSON", "booked the Barbara Yudina Suite", []),
    ("PERSON", "I looked it up. The order was placed by Peter Johnson and paid on the same day.", ["Peter Johnson"]),
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
        ("PERSON", "uczestnik zarzucił Krzemień-Zawadzkiej zatajenie", ["Krzemień-Zawadzkiej"]),
        ("PERSON", "województwo Kujawsko-Pomorskie i powiat Bielsko-Biała", []),
        ("PERSON", "Podaj mi numer telefonu Zająca.", ["Zająca"]),
        ("PERSON", "Podaj mi numer telefonu Urzędu Miasta", []),
        ("PERSON", "Jestem Czarek, uczę fizyki", ["Czarek"]),
        ("PERSON", "Drogi Wujku Zenku, dziękuję", ["Zenku"]),
        ("PERSON", "powiedz, ze od Hani z Zielonki", ["Hani"]),
        ("PERSON", "Zrób refactor tego SQL", []),
        ("STREET_ADDRESS", "zam. ul. Reymonta 14/6, 41-200 Sosnowiec.", ["ul. Reymonta 14/6, 41-200 Sosnowiec"]),
        ("STREET_ADDRESS", "ul. Piłsudskiego 3 m. 15", ["ul. Piłsudskiego 3 m. 15"]),
        ("STREET_ADDRESS", "al. Niepodległości 210/44", ["al. Niepodległości 210/44"]),
        ("STREET_ADDRESS", "os. Bohaterów Września 12 m. 40", ["os. Bohaterów Września 12 m. 40"]),
        ("STREET_ADDRESS", "pl. 3 Maja 9", ["pl. 3 Maja 9"]),
        ("STREET_ADDRESS", "OS. PIASTOW\n14/22, 62-200 GNIEZNO", ["OS. PIASTOW\n14/22, 62-200 GNIEZNO"]),
        ("STREET_ADDRESS", "Rynek 17, lok. 2, 64-000 Kościan", ["Rynek 17, lok. 2, 64-000 Kościan"]),
        ("STREET_ADDRESS", "Stary Folwark 3, 16-402 Suwałki", ["Stary Folwark 3, 16-402 Suwałki"]),
        ("STREET_ADDRESS", "mieszkam na ulicy zielonej 4", ["ulicy zielonej 4"]),
        ("STREET_ADDRESS", "Mieszkam przy ul. 1-go Maja 7", ["ul. 1-go Maja 7"]),
        ("STREET_ADDRESS", "Mieszkam przy ul. Marii Konopnickiej", []),
        ("STREET_ADDRESS", "remont ul. Sienkiewicza w latach 2021-2023", []),
        ("STREET_ADDRESS", "na ulicy stało 5 samochodów, na placu 300 osób", []),
        ("STREET_ADDRESS", "system OS Windows 11", []),
        ("ZIP_CODE", "mój kod to 66-400", ["66-400"]),
        ("ZIP_CODE", "w Kielcach (25-520)", ["25-520"]),
        ("ZIP_CODE", "87-100 Toruń", ["87-100"]),
        ("ZIP_CODE", "strony 10-120 Podręcznika", []),
        ("ZIP_CODE", "temperatura 36-400 stopni", []),
        ("PASSWORD", "hasło do alarmu to Rzodkiewka#8.", ["Rzodkiewka#8"]),
        ("PASSWORD", "a haslo chyba Kremowka1920 ale nie wchodzi", ["Kremowka1920"]),
        ("PASSWORD", "Hasło: minimum 8 znaków", []),
        ("PASSWORD", "hasło: 12-znakowe", []),
        ("PASSWORD", "Zmień hasło przed 31.12.2024", []),
        ("API_KEY", 'klucz: "mk_fake_Zr83hTq0WbL5nVxC2dPsY7"', ["mk_fake_Zr83hTq0WbL5nVxC2dPsY7"]),
        ("PL_PASSPORT", "legitymująca się paszportem EA8794970", ["EA8794970"]),
        ("PASSPORT", "paszport gruziński 14BA09327", ["14BA09327"]),
        ("DRIVER_LICENSE", "prawo jazdy nr 01902/08/2814", ["01902/08/2814"]),
        ("DRIVER_LICENSE", "sprawa nr 01902/08/2814", []),
        ("PL_LAND_REGISTER", "księga WR1K/00347898/5", ["WR1K/00347898/5"]),
        ("PL_KRS", "spółka, KRS: 0000275460", ["0000275460"]),
        ("VEHICLE_PLATE", "Sąsiedzie, Pana auto SJZ 60VE ma zapalone światła", ["SJZ 60VE"]),
        ("VEHICLE_PLATE", "nr rej. EL 9V407", ["EL 9V407"]),
        ("VEHICLE_PLATE", "norma EL 9V407", []),
        ("DATE_OF_BIRTH", "urodził się 3 maja 1931 r. w Drohobyczu", ["3 maja 1931 r."]),
        ("DATE_OF_BIRTH", "ur. 14 IX 1962", ["14 IX 1962"]),
        ("DATE_OF_BIRTH", "data ur.: 10/10/1998", ["10/10/1998"]),
        ("DATE_OF_BIRTH", "termin 14.09.2024, faktura z 3 maja 2024 r.", []),
        ("PHONE_NUMBER", "kom. 665.410.228", ["665.410.228"]),
        ("PHONE_NUMBER", "tel. 22 774 03 55", ["22 774 03 55"]),
        ("PHONE_NUMBER", "numer zamówienia 605 118 902", []),
    ],
)
def test_polish(engine: PiiEngine, entity: str, text: str, values: list[str]) -> None:
    assert found(engine, entity, text, "pl") == values


COUNTED = [kind for kind in (*PATTERN_RECOGNIZERS, PhoneRecognizer) if kind.fewest_digits]


@pytest.mark.parametrize("kind", COUNTED)
def test_text_with_fewer_digits_than_every_value_has_is_not_read(
    kind: type[TextRecognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(kind, "candidates", lambda _, reading, *more: read.append(reading.text) or [])
    recognizer = kind("en", ["word"])
    row, others = "1" * kind.digits_in_a_row, " 1" * (kind.fewest_digits - kind.digits_in_a_row)
    recognizer.analyze("no digit", [])
    recognizer.analyze(row[1:] + " 1" * kind.fewest_digits if row[1:] else "", [])
    recognizer.analyze((row + others)[1:], [])
    assert read == []
    recognizer.analyze(row + others, [])
    assert read == [row + others]


@pytest.mark.parametrize("kind", COUNTED)
def test_no_value_has_fewer_digits_than_its_recognizer_asks_for(kind: type[TextRecognizer]) -> None:
    recognizer = kind("en", ["GB", "PL"])
    behind = FARTHEST_DIGIT if kind is VehiclePlateRecognizer else 0  # Its digit may be that of what stands there.
    fewest, longest = 99, 99
    for text in [*TEXTS, *(text for entity, text, _ in TABLE if entity == kind.entity)]:
        for candidate in recognizer.candidates(Reading(text)):
            numbers = [len(number) for number in re.findall("[0-9]+", text[candidate.start : candidate.end + behind])]
            fewest, longest = min(fewest, sum(numbers)), min(longest, max(numbers, default=0))
    assert kind.fewest_digits <= fewest < 99
    assert kind.digits_in_a_row <= longest
