"""A table's header tells what its columns hold: values without a word beside them, and names that are also words."""

from __future__ import annotations

import pytest

from app.pii import tables
from app.pii.engine import PiiEngine
from app.pii.reading import Reading
from app.pii.tables import header_at


def cells(text: str) -> list[tuple[str, str]]:
    return [(cell.header, text[cell.start : cell.end]) for cell in Reading(text).cells]


def found(engine: PiiEngine, entity: str, text: str, language: str | None = None) -> list[str]:
    report = engine.scan(text, language, []).report
    return [text[each.start : each.end] for each in report.entities if each.type == entity]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a,b\n1,2\n3,4", [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")]),
        ("Hello,\nA;B_c\r\n 1 ; 2\r\n\nx;y", [("a", "1"), ("b_c", "2")]),
        ('"a","b"\n"x, y",1\n,"z"', [("a", "x, y"), ("b", "1"), ("b", "z")]),
        ("| A | B |\n|:--|--:|\n| x | y |", [("a", "x"), ("b", "y")]),
        ("A | B\n--- | ---\nx | y", [("a", "x"), ("b", "y")]),
        ("a\tb\n1\t\n2", [("a", "1")]),
        ("COPY t (a, b) FROM stdin;\n1\t2\n\\.\n", [("a", "1"), ("b", "2")]),
        ("a,b\n1,2\n3\nc,d\n5,6", [("a", "1"), ("b", "2"), ("c", "5"), ("d", "6")]),
        ("Dear Anna, thanks\nfor the parcel, it came", [("dear anna", "for the parcel"), ("thanks", "it came")]),
        ("1,2\n3,4", []),
        ("a,b", []),
        ("a,b\n", []),
        ("a,b\n1,2,3", []),
        ("a,b,c\n1,2", [("a", "1"), ("b", "2")]),
        ("a,b,c\n1,2\n", []),
        ("INSERT INTO t (a, b) VALUES ('x', 'y''z'), (NULL,2 );",
         [("a", "x"), ("b", "y''z"), ("a", "NULL"), ("b", "2")]),
        ("insert ignore into `s`.`t`\n(`a`, [b_c])\nVALUES\n (1, N'x, y'),\n (2, NOW());",
         [("a", "1"), ("b_c", "x, y"), ("a", "2"), ("b_c", "NOW")]),
        ("INSERT INTO t (a, b) VALUES\n('O\\'x', ''),\n('y', 2)", [("a", "O\\'x"), ("a", "y"), ("b", "2")]),
        ("INSERT INTO t (a, b) VALUES (1), (2, 3); INSERT INTO t VALUES (1, 2)", []),
        ("INSERT INTO t (a, b) VALUES (1, 'x", []),
        ("a,b\n1,2\nREPLACE INTO t (c) VALUES (3);\na,b\n4,5",
         [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4"), ("b", "5")]),
    ],
)  # fmt: skip
def test_cells_have_their_columns_header(text: str, read: list[tuple[str, str]]) -> None:
    assert cells(text) == read


def test_a_place_between_cells_has_no_header() -> None:
    reading = Reading("a,b\n1,2")
    assert [header_at(reading, place) for place in range(7)] == ["", "", "", "", "a", "", "b"]


@pytest.mark.parametrize(
    ("entity", "text", "values"),
    [
        ("US_SSN", "id,ssn,name\n1,603 22 1187,x\n2,457558890,y\n3,512449012,z",
         ["603 22 1187", "457558890", "512449012"]),
        ("US_SSN", "id,ref,name\n1,603 22 1187,x\n2,457558890,y", []),
        ("US_SSN", "| SKU | Qty |\n|---|---|\n| 884-22-1190 | 4 |", []),
        ("PHONE_NUMBER", "imie;telefon\nOla;602118440\nJan;512903771", ["602118440", "512903771"]),
        ("PHONE_NUMBER", "imie;punkty\nOla;602118440\nJan;512903771", []),
        ("PERSON", "imie;nazwisko\njan;sowa\nOla;Jeż", ["jan", "sowa", "Ola", "Jeż"]),
        ("PERSON", "first_name,last_name\nFaith,Banks\nnull,n/a", ["Faith", "Banks"]),
        ("PERSON", 'patient,ward\n"Cole, Faith",B2', ["Cole, Faith"]),
        ("PERSON", "Bed\tPatient\n12\tMrs Comfort\n13\tvacant\n14\tsee notes", ["Comfort"]),
        ("PERSON", "nazwisko;zmiana\nSobota;I\nPiątek;II", ["Sobota", "Piątek"]),
        ("PERSON", "name,dob\nWim Otte,1988-01-02", ["Wim Otte"]),
        ("PERSON", "product,name,price\n101,Walnut Chair,899\n102,Oxford Lamp,49", []),
        ("PERSON", "customer,amount\nAcme Corp,500\nFaith Ltd,300", []),
        ("UK_NHS", "nhs,ward\n9434765919,1\n4010232137,2\n4010232138,3", ["9434765919", "4010232137"]),
        ("PL_REGON", "nazwa;regon\nABC;123456785\nXYZ;123456785", ["123456785", "123456785"]),
        ("ZIP_CODE", "street,zip\n14 Oak Lane,74103\n9 Elm,89501", ["74103", "89501"]),
        ("DATE_OF_BIRTH", "a;data ur.\n1;01.02.1990\n2;03.04.1991", ["01.02.1990", "03.04.1991"]),
        ("IBAN_CODE", "name,sort_code,account_number\nx,204577,43871206\ny,40-47-84,30219847",
         ["204577", "43871206", "40-47-84", "30219847"]),
        ("IBAN_CODE", "name,code,number\nx,204577,43871206", []),
        ("PASSWORD", "login;hasło;rola\njkowal;Kapusta77!;admin\nanowak;kremowka;user", ["Kapusta77!", "kremowka"]),
        ("PASSWORD", "field,password\nlength,required\nreset,yearly", []),
        ("PERSON", "INSERT INTO staff (id, imie, nazwisko, zip) VALUES (1, 'jan', 'sowa', '74103');", ["jan", "sowa"]),
        ("PERSON", "INSERT INTO goods (name, price) VALUES ('Walnut Chair', 899), ('Oxford Lamp', 49);", []),
        ("PHONE_NUMBER", "INSERT INTO staff (imie, telefon) VALUES\n('ola', '512903771'),\n('jan', 602118440);",
         ["512903771", "602118440"]),
        ("PHONE_NUMBER", "INSERT INTO staff (imie, punkty) VALUES ('ola', '512903771'), ('jan', 602118440);", []),
        ("ZIP_CODE", "INSERT INTO t (id, zip) VALUES (35350, '74103')", ["74103"]),
    ],
)  # fmt: skip
def test_a_header_tells_what_the_values_below_it_are(
    engine: PiiEngine, entity: str, text: str, values: list[str]
) -> None:
    assert [value.removesuffix(",") for value in found(engine, entity, text)] == values


def test_each_line_is_split_a_few_times_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    split, seen = tables._split, []
    monkeypatch.setattr(tables, "_split", lambda line, delimiter: seen.append(line) or split(line, delimiter))
    for text in ("a,b\n" * 500, "a,b\nc;d\n" * 250, 'a,b\n"x,y\n' * 250):
        seen.clear()
        reading = Reading(text)
        for place in range(0, len(text), 7):
            header_at(reading, place)
        assert len(seen) <= 3 * text.count("\n")
