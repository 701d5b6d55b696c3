"""What a tool gives back as JSON: its values are found through their escapes, and what is left of it is JSON still."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.chat import Role
from app.contracts import (
    CallPlace,
    DetectionReport,
    Envelope,
    GuardedText,
    MessageReport,
    Mode,
    ScanJob,
    Source,
)
from app.identity import now
from app.pii.engine import PiiEngine, PiiScan
from app.pii.redaction import Redactor
from app.pii.restoration import restore
from app.pii.sealing import MapSealer
from app.pii.worker import PiiWorker, Redactors
from app.pinned import ScanRules
from app.redaction import REPLACE_ALL, RedactionTable

PESEL = 44051401359


def scan(engine: PiiEngine, text: str, **table: Any) -> PiiScan:
    redactor = Redactor(RedactionTable.model_validate(table), b"key")
    return engine.scan(text, None, [], redactor, may_be_json=True)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f'{{ "pesel": {PESEL}, "n": 1.50 }}', '{ "pesel": "<PL_PESEL_1>", "n": 1.50 }'),
        (f'{{"pesel": {PESEL}, "old": "{PESEL}"}}', '{"pesel": "<PL_PESEL_1>", "old": "<PL_PESEL_1>"}'),
        (f'[{PESEL}.0, {{"tel": -512345678}}]', None),
        ('{"who": "\\u0141ukasz \\u017b\\u00f3\\u0142\\u0107"}', '{"who": "<PERSON_1>"}'),
        (
            '{"note": "call \\"Anna Nowak\\"\\nann@example.com"}',
            '{"note": "call \\"<PERSON_1>\\"\\n<EMAIL_ADDRESS_1>"}',
        ),
        ('{"a": "\\ud83d\\ude00 ann@example.com \\ud83d"}', '{"a": "\\ud83d\\ude00 <EMAIL_ADDRESS_1> \\ud83d"}'),
        ('{"ann@example.com": {"open": true}}', '{"<EMAIL_ADDRESS_1>": {"open": true}}'),
        ('{"path": "C:\\\\Users\\\\jkowalski\\\\x"}', '{"path": "C:\\\\Users\\\\<USERNAME_1>\\\\x"}'),
        ('{"said": "\\u003cPERSON_1\\u003e met Anna Nowak"}', '{"said": "\\u003cPERSON_1\\u003e met <PERSON_2>"}'),
        (' \n["ann@example.com"]\n', ' \n["<EMAIL_ADDRESS_1>"]\n'),
    ],
)
def test_values_are_replaced_inside_of_strings_and_numbers_become_strings(
    engine: PiiEngine, text: str, redacted: str | None
) -> None:
    scanned = scan(engine, text)
    json.loads(scanned.redacted_text)
    if redacted is not None:
        assert scanned.redacted_text == redacted
    assert scanned.report.count > 0


def test_offsets_count_in_the_text_as_it_came(engine: PiiEngine) -> None:
    text = f'{{"note": "\\u0141\\n\\"ann@example.com\\"", "pesel": {PESEL}}}'
    entities = scan(engine, text).report.entities
    assert [(each.type, text[each.start : each.end]) for each in entities] == [
        ("EMAIL_ADDRESS", "ann@example.com"),
        ("PL_PESEL", str(PESEL)),
    ]


@pytest.mark.parametrize("action", ["mask", "hash", "remove", "keep", "replace"])
def test_it_is_json_whatever_the_table_says(engine: PiiEngine, action: str) -> None:
    text = json.dumps({"street": "ul. Długa 5", "pesel": PESEL, "note": 'Anna "Ania" Nowak\\, ann@example.com'})
    scanned = scan(engine, text, default=action)
    left = json.loads(scanned.redacted_text)
    assert list(left) == ["street", "pesel", "note"]
    assert (scanned.redacted_text == text) is (action == "keep")
    if action == "keep":
        assert str(PESEL) not in str(scanned.log_text)
        json.loads(str(scanned.log_text))
    if action == "mask":
        assert left["street"] == "**. ***** *"
        assert left["pesel"] == "*" * 11


def test_of_a_value_over_several_strings_each_part_is_replaced_and_no_name_between(
    engine: PiiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"first": "Anna", "last": "Nowak", "n": null}'
    analyzer = engine._analyzers.everything
    monkeypatch.setattr(
        analyzer, "found_in", lambda text, language: [_Result(text.index("Anna"), text.index("null") + 2)]
    )
    assert scan(engine, text).redacted_text == '{"first": "<PERSON_1>", "last": "<PERSON_2>", "n": null}'


class _Result:
    entity_type, score = "PERSON", 0.9

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end


@pytest.mark.parametrize(
    "text",
    [
        f'{{"pesel": {PESEL}',
        f'{{"pesel": {PESEL}}}\n{{"pesel": {PESEL}',
        f'{{"pesel": {PESEL}}}\npesel {PESEL}',
        f"pesel: {PESEL}",
        f'"pesel {PESEL}"',
        "[" * 100_000 + f'"pesel {PESEL}"' + "]" * 100_000,
        f"{{'pesel': {PESEL}}}",
    ],
)
def test_what_does_not_parse_is_read_as_any_text(engine: PiiEngine, text: str) -> None:
    plain = engine.scan(text, None, [])
    read = engine.scan(text, None, [], may_be_json=True)
    assert read.redacted_text == plain.redacted_text
    assert read.report.entities == plain.report.entities


RECORD = json.dumps({"pesel": PESEL, "who": "Łukasz Żółć", "note": 'call "Anna Nowak"\nann@example.com'})
REDACTED = {"pesel": "<PL_PESEL_1>", "who": "<PERSON_1>", "note": 'call "<PERSON_2>"\n<EMAIL_ADDRESS_1>'}
LOG = f'{{"seen": 1}}\n{RECORD}\r\n\n{RECORD}\n'


@pytest.mark.parametrize("text", [LOG, f"{RECORD} [{RECORD}]", f"{json.dumps(json.loads(RECORD), indent=1)}\n{RECORD}"])
def test_json_values_behind_each_other_stay_so(engine: PiiEngine, text: str) -> None:
    left = scan(engine, text).redacted_text
    values, place = [], 0
    while place < len(left):
        value, place = json.JSONDecoder().raw_decode(left, place)
        values += value if isinstance(value, list) else [value]
        place += len(left[place:]) - len(left[place:].lstrip())
    assert [value for value in values if value != {"seen": 1}] == [REDACTED, REDACTED]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_json_in_a_string_of_json_is_read_and_stays_json(engine: PiiEngine, levels: int) -> None:
    text = RECORD
    for _ in range(levels):
        text = json.dumps([{"type": "text", "text": text}])
    scanned = scan(engine, text)
    left = scanned.redacted_text
    for _ in range(levels):
        left = json.loads(left)[0]["text"]
    assert json.loads(left) == REDACTED
    assert restore("<PERSON_1>", scanned.redaction.placeholders).text == "Łukasz Żółć"
    assert {text[each.start : each.end] for each in scanned.report.entities} >= {str(PESEL), "ann@example.com"}


def test_json_lines_in_a_string_and_json_written_twice_are_read_too(engine: PiiEngine) -> None:
    lines = json.loads(scan(engine, json.dumps({"stdout": LOG})).redacted_text)["stdout"]
    assert [json.loads(line) for line in lines.splitlines() if line][1:] == [REDACTED, REDACTED]
    assert json.loads(json.loads(scan(engine, json.dumps(RECORD)).redacted_text)) == REDACTED


@pytest.mark.parametrize("action", ["mask", "hash", "remove"])
def test_a_substitute_is_escaped_as_deep_as_it_stands(engine: PiiEngine, action: str) -> None:
    inner = json.dumps({"pesel": PESEL, "note": 'password: "a\\"b7!Qx"'})
    left = json.loads(json.loads(scan(engine, json.dumps({"body": inner}), default=action).redacted_text)["body"])
    assert list(left) == ["pesel", "note"]
    assert str(PESEL) not in str(left)


def test_a_value_has_one_placeholder_however_it_is_escaped_and_comes_back_as_the_string_says_it(
    engine: PiiEngine,
) -> None:
    scanned = scan(engine, '["\\u0141ukasz \\u017b\\u00f3\\u0142\\u0107", "Łukasz Żółć"]')
    assert scanned.redacted_text == '["<PERSON_1>", "<PERSON_1>"]'
    assert restore("Dear <PERSON_1>,", scanned.redaction.placeholders).text == "Dear Łukasz Żółć,"


def test_work_does_not_grow_faster_than_the_text(engine: PiiEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number is looked at once, however many values are found."""
    from app.pii import json_text

    seen: list[int] = []
    part = json_text._part
    monkeypatch.setattr(json_text, "_part", lambda *given: seen.append(1) or part(*given))
    scan(engine, json.dumps([{"pesel": PESEL}] * 500))
    assert len(seen) <= 1_000


@pytest.mark.parametrize(("source", "is_json"), [(Source.TOOL, True), (Source.INPUT, False)])
async def test_a_tools_output_is_read_so_and_no_other_text(engine: PiiEngine, source: Source, is_json: bool) -> None:
    text = f'{{"pesel": {PESEL}}}'
    redacted = (await _scanned(engine, text, source, None)).redacted_text
    assert redacted == ('{"pesel": "<PL_PESEL_1>"}' if is_json else '{"pesel": <PL_PESEL_1>}')


async def test_in_a_chat_tool_messages_calls_and_results_are_read_so(engine: PiiEngine) -> None:
    one = f'{{"pesel": {PESEL}}}'
    text = f"{one}\n\n{one}\n\n{one}"
    place, second = len(one), 2 * len(one) + 4
    conversation = [
        MessageReport(role=Role.USER, texts=[(0, place)]),
        MessageReport(role=Role.TOOL, texts=[(place + 2, 2 * place + 2)]),
        MessageReport(
            role=Role.USER,
            texts=[(second, second + place)],
            call=CallPlace(path="content.0.content", pointers=[""]),
        ),
    ]
    redacted = (await _scanned(engine, text, Source.INPUT, conversation)).redacted_text
    assert str(redacted).split("\n\n") == ['{"pesel": <PL_PESEL_1>}', *['{"pesel": "<PL_PESEL_1>"}'] * 2]


@pytest.mark.parametrize(
    ("pointer", "text", "kept"),
    [
        ("/phone", "602118440", False),
        ("/0/phones/1", "602118440", False),
        ("/order_id", "602118440", True),
        ("/0/1", "602118440", True),
        ("", "602118440", True),
        ("/customer/ssn", "457558890", False),
        ("/zip", "74103", False),
        ("/last_name", "Banks", False),
        ("/currency", "EUR", True),
        ("/password", "kremowka", False),
        ("/mrn", "A-102938", False),
        ("/vin", "WVWZZZ1JZXW000001", False),
        ("/" + "phone" * 20, "602118440", True),
        ("/order_id", "phone 602118440", False),
    ],
)
async def test_the_name_of_what_an_object_holds_tells_what_it_is(
    engine: PiiEngine, pointer: str, text: str, kept: bool
) -> None:
    call = CallPlace(path="content.0.content", pointers=["/0/text", pointer])
    first = "Hello there"
    places = [(0, len(first)), (len(first) + 1, len(first) + 1 + len(text))]
    job = await _scanned(
        engine, f"{first}\n{text}", Source.INPUT, [MessageReport(role=Role.USER, texts=places, call=call)]
    )
    redacted = str(job.redacted_text).removeprefix(f"{first}\n")
    assert (redacted == text) is kept
    assert kept or redacted.endswith("_1>")
    spans = [(each.start, each.end) for each in job.conversation[0].pii.entities]
    assert spans == ([] if kept else [(places[1][1] - len(text.split()[-1]), places[1][1])])


@pytest.mark.parametrize(
    "text", ["Good morning, Anna Nowak", '{"pesel": 44051401359}', "a,b\n1,2", "x" * 300 + " Anna"]
)
def test_a_name_changes_nothing_outside_the_text(engine: PiiEngine, text: str) -> None:
    without, language = engine.find(text, "en", [], may_be_json=True)
    spans, used = engine.find(text, "en", [], may_be_json=True, name='Anna Nowak", phone')
    assert (spans, used) == (without, language)


async def _scanned(engine: PiiEngine, text: str, source: Source, conversation: list[MessageReport] | None) -> Any:
    async def rules(_: GuardedText) -> ScanRules:
        return ScanRules("plain", REPLACE_ALL, ())

    job = ScanJob(
        text=text,
        language="en",
        allow_list=[],
        subject=GuardedText(digest="", length=len(text), mode=Mode.FULL, source=source, policy=None),
        detection=DetectionReport(branches={}, model_version="test"),
        conversation=conversation,
    )
    sealer = MapSealer((b"kappa-omega-secret-of-32-characters",), timedelta(hours=1))
    with ThreadPoolExecutor(1) as threads:
        worker = PiiWorker(engine, threads, Redactors(b"key"), sealer, rules)
        return await worker(job, Envelope(request_id=UUID(int=1), received_at=now()))
