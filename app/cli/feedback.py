"""`vigil feedback`: reports on decisions, and those with a text as data that `vigil evaluate` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.command import BeforeFilter, Exit, JsonOption, ServerOption, SinceFilter, examples, group, opened, run
from app.cli.events import TenantFilter
from app.cli.render import emit, emit_line, note, table
from app.contracts import Verdict
from app.errors import ConfigurationError
from app.log_contracts import FeedbackQuery, FeedbackRecord, FeedbackVerdict
from app.validation import checked

if TYPE_CHECKING:
    from app.messaging.questions import Archive

commands = group("Feedback: list reports on decisions, and export them as evaluation data.")

PAGE: Final = 200
VerdictFilter = Annotated[
    FeedbackVerdict | None, typer.Option("--verdict", help="false_positive, false_negative or correct.")
]


@commands.command(
    "ls", epilog=examples("vigil feedback ls", "vigil feedback ls --verdict false_positive --since 7d -j")
)
def ls(
    verdict: VerdictFilter = None,
    tenant: TenantFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Most reports.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after an earlier page.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List reports, newest first; never a text."""

    async def work() -> None:
        wanted = {"verdict": verdict, "tenant": tenant, "since": since, "before": before}
        query = checked(FeedbackQuery, wanted | {"limit": limit, "cursor": cursor})
        async with opened(server) as admin:
            page = await admin.archive.feedback(query)
        if as_json:
            emit(page)
            return
        rows = [
            (
                each.given_at,
                str(each.request_id),
                each.verdict,
                each.decision,
                each.score,
                each.expected,
                each.category,
                each.tenant,
                each.comment,
            )
            for each in page.reports
        ]
        columns = ("Given", "Request id", "Verdict", "Decision", "Score", "Expected", "Category", "Tenant", "Comment")
        table(columns, rows)
        if page.next_cursor is not None:
            note(f"There are older ones: --cursor {page.next_cursor}")

    run(work())


@commands.command(
    "export",
    epilog=examples(
        "vigil feedback export reports.jsonl",
        "vigil feedback export - --verdict false_negative | jq .text",
        "vigil evaluate reports.jsonl",
        "",
        "Only reports whose caller gave up the text are written; each text once, its latest report.",
    ),
)
def export(
    output: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to write JSON Lines.")],
    verdict: VerdictFilter = None,
    tenant: TenantFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    server: ServerOption = None,
) -> None:
    """Write reports with a text as labelled texts for `vigil evaluate`."""

    def write(reports: list[FeedbackRecord]) -> Exit:
        if output == "-":
            for report in reports:
                emit_line(labelled(report))
        else:
            lines = (json.dumps(labelled(report), ensure_ascii=False) for report in reports)
            try:
                Path(output).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(f"{output}: cannot be written: {type(error).__name__}") from None
        note(f"{len(reports):,} texts")
        return Exit.OK if reports else Exit.PROBLEM

    async def work() -> Exit:
        wanted = {"verdict": verdict, "tenant": tenant, "since": since, "before": before, "with_text": True}
        query = checked(FeedbackQuery, wanted | {"limit": PAGE})
        async with opened(server) as admin:
            reports = await latest_of_each_text(admin.archive, query)
        return write(reports)

    run(work())


def labelled(report: FeedbackRecord) -> dict[str, str | None]:
    """Return a report as a line of evaluation data: the text and what it truly is."""
    return {
        "text": report.text,
        "label": "attack" if is_attack(report) else "benign",
        "kind": report.category or report.verdict,
        "lang": report.language,
        "source": report.source,
    }


def is_attack(report: FeedbackRecord) -> bool:
    """Whether the text should be blocked: as the report expects, else what the verdict makes of the decision."""
    if report.expected is not None:
        return report.expected is Verdict.BLOCKED
    match report.verdict:
        case FeedbackVerdict.FALSE_POSITIVE:
            return False
        case FeedbackVerdict.FALSE_NEGATIVE:
            return True
        case FeedbackVerdict.CORRECT:
            return report.decision is Verdict.BLOCKED


async def latest_of_each_text(archive: Archive, query: FeedbackQuery) -> list[FeedbackRecord]:
    """Return the newest report on each text, page by page; a text that was sent twice is one line of an evaluation."""
    found: dict[str, FeedbackRecord] = {}
    while True:
        page = await archive.feedback(query)
        for report in page.reports:
            found.setdefault(report.text_digest, report)
        if page.next_cursor is None:
            return list(found.values())
        query = query.model_copy(update={"cursor": page.next_cursor})
