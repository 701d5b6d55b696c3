"""`vigil guard` against a running messaging room: one text, many texts, problems, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.contracts import DecideJob, DecisionRecord, Envelope, GuardAnswer, Mode, Source, Verdict
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.integration.messaging.conftest import Running
from tests.support import PlainWorkers, decision_record

pytestmark = pytest.mark.integration


async def by_length(self: PlainWorkers, job: DecideJob, envelope: Envelope) -> DecisionRecord:
    """Texts of 13 characters are blocked, of 14 sanitized: workers that need no model."""
    record = decision_record(job, envelope)
    verdict = {13: Verdict.BLOCKED, 14: Verdict.SANITIZED}.get(job.subject.length, Verdict.ALLOWED)
    sanitized = "for <PERSON_1>" if verdict is Verdict.SANITIZED else None
    answer = record.answer.model_copy(update={"decision": verdict, "sanitized_text": sanitized})
    return record.model_copy(update={"answer": answer})


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Running:
    """The messaging room with workers whose decisions differ."""
    monkeypatch.setattr(PlainWorkers, "arbitrate", by_length)
    running: Running = request.getfixturevalue("running")
    return running


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


async def test_one_text_gets_a_decision_and_flags_become_fields_of_the_request(vigil: Vigil, running: Running) -> None:
    options = ("--mode", "fast", "--source", "tool", "--policy", "strict", "--language", "pl", "--deadline", "2s")
    answer = parsed(await vigil("guard", "hello", *options, "--allow", "Anna", "-j"))
    assert answer["decision"] == "ALLOWED"
    [request] = running.plain.requests
    assert (request.text, request.mode, request.source) == ("hello", Mode.FAST, Source.TOOL)
    assert (request.policy, request.language, request.deadline_ms) == ("strict", "pl", 2000)
    assert request.allow_list == ["Anna"]


async def test_json_of_one_text_is_the_answer_without_the_sanitized_text(vigil: Vigil, judging: Running) -> None:
    hidden = parsed(await vigil("guard", "x" * 14, "-j"))
    assert set(hidden) == set(GuardAnswer.model_fields) - {"sanitized_text", "messages", "sanitized_messages"}
    shown = parsed(await vigil("guard", "x" * 14, "-j", "--text"))
    assert shown["sanitized_text"] == "for <PERSON_1>"
    assert "PERSON_1" not in (await vigil("guard", "x" * 14)).output
    assert "PERSON_1" in (await vigil("guard", "x" * 14, "--text")).output


@pytest.mark.parametrize(
    ("length", "options", "code"),
    [
        (5, (), 0),
        (13, (), 1),
        (14, (), 0),
        (14, ("--fail-on", "sanitized"), 1),
        (13, ("--fail-on", "sanitized"), 1),
        (13, ("--fail-on", "never"), 0),
    ],
)
async def test_the_exit_code_tells_the_decision(
    vigil: Vigil, judging: Running, length: int, options: tuple[str, ...], code: int
) -> None:
    assert (await vigil("guard", "x" * length, *options)).exit_code == code


async def test_a_text_comes_from_a_file_or_from_standard_input(vigil: Vigil, running: Running, tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("two\nlines, zażółć", "utf-8")
    await vigil("guard", "-f", str(page))
    await vigil("guard", "-", stdin="one\ntext")
    assert [request.text for request in running.plain.requests] == ["two\nlines, zażółć", "one\ntext"]


async def test_a_text_keeps_its_line_ends_and_one_that_is_not_utf_8_is_a_usage_error(
    vigil: Vigil, running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"one\r\ntwo\r\n")
    assert (await vigil("guard", "-f", str(file))).exit_code == 0
    assert (await vigil("guard", "-", stdin="one\r\n")).exit_code == 0
    assert (await vigil("guard", "-f", "-", stdin="two\n")).exit_code == 0
    assert [request.text for request in running.plain.requests] == ["one\r\ntwo\r\n", "one\r\n", "two\n"]
    file.write_bytes(b"\xff\xfe")
    refused = await vigil("guard", "-f", str(file))
    assert (refused.exit_code, "cannot be read as UTF-8" in refused.stderr) == (2, True)


@pytest.mark.parametrize("hostile", [b'{"text": "\xff"}', b"[" * 100_000])
async def test_a_line_that_is_no_utf_8_or_too_deep_does_not_stop_the_others(
    vigil: Vigil, running: Running, tmp_path: Path, hostile: bytes
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(hostile + b'\n{"text": "hello"}\n')
    told = await vigil("guard", "-f", str(file))
    assert (told.exit_code, [line["status"] for line in lines(told.stdout)]) == (1, [400, 200])


@pytest.mark.parametrize("option", ["--jsonl", "--lines"])
async def test_a_byte_order_mark_belongs_to_no_line(
    vigil: Vigil, running: Running, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "prompts"
    content = '{"text": "first"}' if option == "--jsonl" else "first"
    file.write_bytes(f"\ufeff{content}\r\n".encode())
    told = await vigil("guard", option, "-f", str(file))
    assert [line["status"] for line in lines(told.stdout)] == [200]
    assert [request.text for request in running.plain.requests] == ["first"]


@pytest.mark.parametrize("options", [(), ("--deadline", "0s")])
async def test_a_deadline_that_none_can_be_is_told_by_its_name(
    vigil: Vigil, running: Running, options: tuple[str, ...]
) -> None:
    fields = {"text": "b"} | ({} if options else {"deadline_ms": -5000})
    told = await vigil("guard", "--jsonl", *options, "-", stdin=json.dumps(fields) + "\n")
    (answered,) = lines(told.stdout)
    assert (answered["status"], answered["problem"]["errors"][0]["field"]) == (422, "deadline_ms")


async def test_many_texts_are_answered_line_by_line_in_their_order(
    vigil: Vigil, judging: Running, tmp_path: Path
) -> None:
    rows = [{"text": "a" * (10 + number % 6), "id": f"row {number}", "label": "ignored"} for number in range(120)]
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    result = await vigil("guard", "-f", str(texts), "--mode", "fast")
    answered = lines(result.stdout)
    assert result.exit_code == 1
    assert [each["line"] for each in answered] == list(range(1, 121))
    assert [each["id"] for each in answered] == [row["id"] for row in rows]
    assert {each["status"] for each in answered} == {200}
    assert [each["answer"]["decision"] for each in answered[:6]] == [
        *("ALLOWED", "ALLOWED", "ALLOWED", "BLOCKED", "SANITIZED", "ALLOWED")
    ]
    assert "sanitized_text" not in answered[4]["answer"]
    assert "120 texts" in result.stderr
    assert "80 ALLOWED, 20 SANITIZED, 20 BLOCKED" in result.stderr


async def test_lines_come_from_a_pipe_that_has_a_name(vigil: Vigil, running: Running) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"first\nsecond\n")
    os.close(writing)
    result = await vigil("guard", "--lines", "-f", f"/dev/fd/{reading}")
    os.close(reading)
    assert [each["status"] for each in lines(result.stdout)] == [200, 200]


async def test_plain_lines_are_texts(vigil: Vigil, running: Running) -> None:
    result = await vigil("guard", "--lines", "-", stdin='first\n\n{"text": "second"}\n')
    assert [each["line"] for each in lines(result.stdout)] == [1, 3]
    assert sorted(request.text for request in running.plain.requests) == ["first", '{"text": "second"}']


async def test_a_line_overrides_the_flags(vigil: Vigil, running: Running) -> None:
    stdin = '{"text": "a", "mode": "fast"}\n{"text": "b"}\n'
    await vigil("guard", "--jsonl", "--source", "output", "-", stdin=stdin)
    assert {(request.text, request.mode, request.source) for request in running.plain.requests} == {
        ("a", Mode.FAST, Source.OUTPUT),
        ("b", Mode.FULL, Source.OUTPUT),
    }


async def test_a_line_that_cannot_be_judged_gets_a_problem_and_does_not_stop_the_others(
    vigil: Vigil, running: Running
) -> None:
    stdin = 'not json\n{"text": ""}\n{"text": "fine"}\n[1]\n{"text": "b", "deadline_ms": "x"}\n'
    stdin += f'{{"text": "b", "deadline_ms": {10**400}}}\n'
    result = await vigil("guard", "--jsonl", "-", stdin=stdin)
    answered = lines(result.stdout)
    assert [each["status"] for each in answered] == [400, 422, 200, 400, 422, 422]
    assert answered[1]["problem"]["errors"][0]["field"] == "text"
    assert (result.exit_code, "1 ALLOWED, 5 failed" in result.stderr) == (1, True)


async def test_a_text_that_no_message_holds_is_a_problem(vigil: Vigil, running: Running) -> None:
    result = await vigil("guard", "-", "-j", stdin="x" * 2_000_000)
    assert (result.exit_code, parsed(result)["status"]) == (1, 413)


async def test_no_service_is_exit_code_3(vigil: Vigil, declared: Declared) -> None:
    result = await vigil("guard", "hello")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no service answers vigil.api.guard" in result.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("text", "-f", __file__), ("text", "--lines"), ("-", "--lines", "--jsonl"), ("x", "--mode", "y")]
)
async def test_what_makes_no_sense_is_a_usage_error(vigil: Vigil, arguments: tuple[str, ...]) -> None:
    assert (await vigil("guard", *arguments)).exit_code == 2
