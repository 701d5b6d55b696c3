"""`vigil guard`: a decision from the shell, for one text or for many, asked of the running service over NATS."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError

from app.cli.command import (
    Exit,
    JsonOption,
    ServerOption,
    duration,
    examples,
    opened,
    readable,
    run,
    settings_of_service,
    text_of,
)
from app.cli.render import emit, emit_line, note, progress, say
from app.contracts import BatchItem, GuardAnswer, GuardRequest, Mode, Problem, Source, Verdict
from app.errors import DecisionTimeout, InvalidRequest, MalformedJson, PayloadTooLarge, ServerRefusal
from app.problems import to_problem

if TYPE_CHECKING:
    from app.messaging.admin import Admin

EXAMPLES = examples(
    "vigil guard 'What is the capital of France?'",
    "vigil guard --mode fast --source tool -f page.html",
    "vigil guard --lines - < prompts.txt > decisions.jsonl",
    "vigil guard -f prompts.jsonl --concurrency 16 --fail-on never",
    "",
    "Many texts, one JSON object a line in and out: -f NAME.jsonl or --jsonl (other fields than a request's are left",
    "out, and 'id' comes back), or --lines with one text a line. Exit status 1: something was BLOCKED, or failed.",
)
LONGEST_MS: Final = 60_000
"""Longest deadline that the service takes."""
GRACE_S: Final = 2.0
"""Beyond the service's own deadline, so that its answer to a late decision arrives."""
FIELDS: Final = frozenset(GuardRequest.model_fields)
JSON_LINES: Final = (".jsonl", ".ndjson")
BYTE_ORDER_MARK: Final = "\ufeff"
"""Editors and exports of Windows begin a file with it; it belongs to no line."""
SEVERITY: Final = (Verdict.ALLOWED, Verdict.SANITIZED, Verdict.BLOCKED)


class FailOn(StrEnum):
    """From which decision on the exit status is 1."""

    BLOCKED = "blocked"
    SANITIZED = "sanitized"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Line:
    """One text of many."""

    number: int
    request: dict[str, Any] | None
    """None where the line is no JSON object."""
    id: str | int | None = None


def guard(
    text: Annotated[str | None, typer.Argument(help="The text; '-' reads standard input.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", parser=readable, metavar="FILE", help="Read this file; '-' also works."),
    ] = None,
    mode: Annotated[Mode, typer.Option("--mode", help="full: every branch; fast: no personal data.")] = Mode.FULL,
    source: Annotated[Source, typer.Option("--source", help="Where the text comes from.")] = Source.INPUT,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Name of a policy; the service's default else.")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="ISO 639-1 code; detected else.")] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="A value that is never personal data.")] = None,
    deadline: Annotated[
        timedelta | None, typer.Option("--deadline", parser=duration, metavar="TIME", help="How long to wait, as 2s.")
    ] = None,
    as_lines: Annotated[bool, typer.Option("--lines", help="Each line is a text.")] = False,
    as_json_lines: Annotated[bool, typer.Option("--jsonl", help='Each line is a JSON object with "text".')] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Texts under way at once.")] = 8,
    show_text: Annotated[bool, typer.Option("--text", help="Show the sanitized text too.")] = False,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which decision on the exit status is 1.")
    ] = FailOn.BLOCKED,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the running service for a decision."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give a text, '-' for standard input, or -f FILE")
    if as_lines and as_json_lines:
        raise typer.BadParameter("--lines and --jsonl exclude each other")
    from_stdin = text == "-" or str(file) == "-"
    bulk = as_lines or as_json_lines or (file is not None and file.suffix in JSON_LINES)
    if bulk and text is not None and not from_stdin:
        raise typer.BadParameter("many texts come from standard input or a file")
    common: dict[str, Any] = {"mode": mode, "source": source}
    common |= {"policy": policy} if policy else {}
    common |= {"language": language} if language else {}
    common |= {"allow_list": allow} if allow else {}
    common |= {"deadline_ms": int(deadline / timedelta(milliseconds=1))} if deadline is not None else {}

    async def one() -> Exit:
        content = text_of(Path("-")) if from_stdin else text if file is None else text_of(file)
        async with opened(server) as admin:
            item = await _decide(admin, common | {"text": content})
        if as_json:
            emit(_dumped(item, show_text=show_text)["answer" if item.answer else "problem"])
        else:
            _show(item, show_text=show_text)
        return _exit([item], fail_on)

    async def many() -> Exit:
        # What is read from a pipe to be counted is gone.
        total = _count_lines(file) if file is not None and not from_stdin and file.is_file() else None
        started = time.perf_counter()
        counts: Counter[str] = Counter()
        async with opened(server) as admin:
            with progress("Guarding", total) as step, _source(None if from_stdin else file) as rows:
                lines = _read(rows, common, plain=as_lines)
                async for line, item in _in_order(admin, lines, concurrency):
                    known = {"line": line.number} | ({"id": line.id} if line.id is not None else {})
                    emit_line(known | _dumped(item, show_text=show_text))
                    counts[item.answer.decision if item.answer else "failed"] += 1
                    step()
        took_s = time.perf_counter() - started
        done = sum(counts.values())
        parts = ", ".join(f"{counts[name]:,} {name}" for name in (*Verdict, "failed") if counts[name])
        note(f"{done:,} texts in {took_s:.1f} s ({done / took_s:.0f}/s): {parts}")
        return _exit_of(set(counts), fail_on)

    run(many() if bulk else one())


async def _in_order(admin: Admin, lines: Iterable[Line], concurrency: int) -> AsyncIterator[tuple[Line, BatchItem]]:
    """Decide all lines, so many at once, and return them in their order."""
    running: deque[tuple[Line, asyncio.Task[BatchItem]]] = deque()
    try:
        for line in lines:
            running.append((line, asyncio.create_task(_decide(admin, line.request))))
            while len(running) >= concurrency:
                first, task = running.popleft()
                yield first, await task
        while running:
            first, task = running.popleft()
            yield first, await task
    finally:
        for _, task in running:
            task.cancel()


async def _decide(admin: Admin, request: dict[str, Any] | None) -> BatchItem:
    """Return the decision or the problem of one text.

    Raises:
        MessagingUnavailable: no service answers.
        ServerRefusal: its answer is not understood.
    """
    try:
        if request is None:
            raise MalformedJson('the line is no JSON object with "text"')
        settings = settings_of_service()
        wait_s = request.get("deadline_ms", 1000 * settings.http.timeout_s)
        # The service refuses what is out of range; a number can be too long to divide.
        wait_s = min(max(0, wait_s), LONGEST_MS) / 1000 if isinstance(wait_s, int | float) else settings.http.timeout_s
        reply = await admin.guard(json.dumps(request).encode(), timeout_s=wait_s + GRACE_S)
    except (InvalidRequest, DecisionTimeout, PayloadTooLarge) as error:
        problem = to_problem(error)
        return BatchItem(status=problem.status, problem=problem)
    try:
        if reply.error_code is not None:
            problem = Problem.model_validate_json(reply.payload, extra="allow")
            return BatchItem(status=problem.status, problem=problem)
        return BatchItem(status=200, answer=GuardAnswer.model_validate_json(reply.payload, extra="allow"))
    except ValidationError:
        raise ServerRefusal("the service's answer is not understood: is it of another version?") from None


def _read(source: Iterable[str], common: dict[str, Any], *, plain: bool) -> Iterator[Line]:
    for number, row in enumerate(source, 1):
        stripped = row.rstrip("\r\n")
        if number == 1:
            stripped = stripped.removeprefix(BYTE_ORDER_MARK)
        if not stripped.strip():
            continue
        if plain:
            yield Line(number, common | {"text": stripped})
            continue
        try:
            told = json.loads(stripped)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            yield Line(number, None)
            continue
        name = told.get("id")
        request = common | {field: value for field, value in told.items() if field in FIELDS}
        yield Line(number, request, name if isinstance(name, str | int) else None)


def _source(file: Path | None) -> AbstractContextManager[Iterable[str]]:
    """Open the lines; one that is not UTF-8 is for the service to refuse, and the others are judged."""
    if file is not None:
        return file.open(encoding="utf-8", errors="surrogateescape")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return nullcontext(sys.stdin)


def _count_lines(file: Path) -> int:
    with file.open("rb") as rows:
        return sum(1 for row in rows if row.strip())


def _dumped(item: BatchItem, *, show_text: bool) -> dict[str, Any]:
    """Return an item as JSON; the sanitized text is left out unless it was asked for."""
    dumped: dict[str, Any] = item.model_dump(mode="json", exclude_none=False)
    if dumped["answer"] is None:
        return {"status": item.status, "problem": dumped["problem"]}
    if not show_text:
        del dumped["answer"]["sanitized_text"]
    return {"status": item.status, "answer": dumped["answer"]}


def _show(item: BatchItem, *, show_text: bool) -> None:
    if item.answer is None:
        problem = item.problem
        say(f"{problem.status} {problem.title}: {problem.detail}" if problem else "no answer")
        return
    answer = item.answer
    say(f"{answer.decision}  score {answer.score}, {answer.threat_level}")
    if answer.categories:
        say(f"  categories: {', '.join(answer.categories)}")
    for explanation in answer.explanations:
        say(f"  - {explanation}")
    degraded = [name for name, branch in answer.branches.items() if branch.degraded]
    if degraded:
        say(f"  failed branches: {', '.join(degraded)}")
    if answer.pii.scanned:
        types = Counter(entity.type for entity in answer.pii.entities)
        found = ", ".join(f"{count} {name}" for name, count in types.most_common()) or "none found"
        say(f"  personal data: {found}")
    else:
        say("  personal data: not scanned")
    say(f"  {answer.mode}, {answer.source}, policy {answer.policy}, {answer.latency_ms:.1f} ms, {answer.request_id}")
    if answer.sanitized_text is not None:
        if show_text:
            say()
            for row in answer.sanitized_text.splitlines():
                say(row)
        else:
            say("  --text shows the text to use instead")


def _exit(items: list[BatchItem], fail_on: FailOn) -> Exit:
    return _exit_of({item.answer.decision if item.answer else "failed" for item in items}, fail_on)


def _exit_of(outcomes: set[str], fail_on: FailOn) -> Exit:
    tolerated = SEVERITY if fail_on is FailOn.NEVER else SEVERITY[: SEVERITY.index(Verdict[fail_on.name])]
    return Exit.PROBLEM if outcomes - set(tolerated) else Exit.OK
