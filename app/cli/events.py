"""`vigil events`: what the event log holds, asked of the running service; and deleting it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from app.cli.audit import actor
from app.cli.command import (
    BeforeFilter,
    Exit,
    ForceOption,
    JsonOption,
    ServerOption,
    SinceFilter,
    examples,
    group,
    opened,
    readable,
    run,
    settings_of_service,
    text_of,
)
from app.cli.render import Figure, emit, facts, note, say, table
from app.contracts import BranchResult, Category, Finding, MessageVerdict, Mode, Source, Verdict
from app.log_contracts import EventDetail, EventQuery, EventQuestion, ForgetReport, ForgetRequest, ForgetState
from app.validation import checked

commands = group("The event log: list and show events, and forget what is stored.")

WAIT_S: Final = 60.0
POLL_S: Final = 0.25
MESSAGE_COLUMNS: Final = ("Message", "Role", "Decision", "Score", "Categories", "Found by")
BRANCH_COLUMNS: Final = ("Branch", "Score", "Confidence", "Signals")
FINDING_COLUMNS: Final = ("Found by", "Rule", "Action", "Places", "Highest score")

DecisionFilter = Annotated[list[Verdict] | None, typer.Option("--decision", "-d", help="Only this; may be repeated.")]
CategoryFilter = Annotated[list[Category] | None, typer.Option("--category", "-c", help="At least one of these.")]
SourceFilter = Annotated[Source | None, typer.Option("--source", help="input, output or tool.")]
ModeFilter = Annotated[Mode | None, typer.Option("--mode", help="fast or full.")]
PolicyFilter = Annotated[str | None, typer.Option("--policy", help="Name of a policy.")]
TenantFilter = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")]
KeyFilter = Annotated[str | None, typer.Option("--key-id", help="Only of this key.")]
MinScore = Annotated[int | None, typer.Option("--min-score", min=0, max=100)]
MaxScore = Annotated[int | None, typer.Option("--max-score", min=0, max=100)]
PiiFilter = Annotated[str | None, typer.Option("--pii", metavar="TYPE", help="With this kind, as PERSON.")]
FeedbackFilter = Annotated[bool | None, typer.Option("--feedback/--no-feedback", help="With a report, or without.")]


@commands.command(
    "ls",
    epilog=examples(
        "vigil events ls", "vigil events ls -d BLOCKED --since 1h", "vigil events ls --pii PERSON --min-score 30 -j"
    ),
)
def ls(
    decision: DecisionFilter = None,
    category: CategoryFilter = None,
    source: SourceFilter = None,
    mode: ModeFilter = None,
    policy: PolicyFilter = None,
    tenant: TenantFilter = None,
    key_id: KeyFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    min_score: MinScore = None,
    max_score: MaxScore = None,
    pii: PiiFilter = None,
    feedback: FeedbackFilter = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Most events.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after an earlier page.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events, newest first; never a text."""

    async def work() -> None:
        wanted = filters(
            decision, category, source, mode, policy, tenant, key_id, since, before, min_score, max_score, pii, feedback
        )
        query = checked(EventQuery, wanted | {"limit": limit, "cursor": cursor})
        async with opened(server) as admin:
            page = await admin.archive.events(query)
        if as_json:
            emit(page)
            return
        rows = [
            (
                each.received_at,
                str(each.request_id),
                each.decision,
                each.score,
                each.mode,
                each.source,
                each.policy,
                each.tenant,
                " ".join(each.categories),
                " ".join(each.pii_types),
                Figure(f"{each.latency_ms:.0f} ms"),
                each.feedback,
            )
            for each in page.events
        ]
        columns = (
            *("Received", "Request id", "Decision", "Score", "Mode", "Source", "Policy", "Tenant"),
            *("Categories", "Personal data", "Took", "Feedback"),
        )
        table(columns, rows)
        if page.next_cursor is not None:
            note(f"There are older ones: --cursor {page.next_cursor}")

    run(work())


@commands.command("show", epilog=examples("vigil events show 01a214a2-d5f1-7354-adeb-bb61793cf035"))
def show(
    request_id: Annotated[UUID, typer.Argument(help="Request id, as `ls` shows it.")],
    text: Annotated[bool, typer.Option("--text", help="Show stored texts too: they may hold a user's words.")] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one event: decision, reasons, reports; texts only with --text."""

    async def work() -> None:
        async with opened(server) as admin:
            detail = await admin.archive.event(EventQuestion(request_id=request_id, with_text=text))
        if as_json:
            emit(detail if text else without_texts(detail))
            return
        record, answer = detail.record, detail.record.answer
        facts(
            [
                ("Request id", answer.request_id),
                ("Received", record.received_at),
                ("Decision", f"{answer.decision}, score {answer.score}, {answer.threat_level}"),
                ("Categories", ", ".join(answer.categories) or None),
                ("Mode, source", f"{answer.mode}, {answer.source}"),
                ("Policy", f"{answer.policy}, version {answer.policy_version}"),
                *([("Dry run", f"would decide {answer.would_decide}")] if answer.dry_run else []),
                ("Tenant", record.tenant),
                ("Key id", record.key_id or None),
                ("Personal data", ", ".join(sorted({each.type for each in answer.pii.entities})) or None),
                ("Took", f"{answer.latency_ms:.1f} ms"),
                ("Text", f"{record.text_length:,} characters, digest {record.text_digest}"),
                ("Model", answer.model_version),
            ]
        )
        for line in answer.explanations:
            say(f"- {line}")
        if answer.branches:
            say()
            table(BRANCH_COLUMNS, [_branch_row(*each) for each in answer.branches.items()], title="Branches")
        if answer.findings:
            say()
            table(FINDING_COLUMNS, _finding_rows(answer.findings), title="Findings")
        if answer.messages is not None:
            say()
            table(MESSAGE_COLUMNS, [_message_row(each) for each in answer.messages], title="Messages")
        for report in detail.feedback:
            say(f"Feedback {report.verdict} at {report.given_at:%Y-%m-%d %H:%M:%SZ}: {report.comment or 'no comment'}")
        if text:
            texts = (
                ("Full text", detail.text),
                ("Redacted", record.redacted_text),
                ("Sanitized", answer.sanitized_text),
            )
            for name, stored in texts:
                if stored is not None:
                    say()
                    say(f"{name}:")
                    for line in stored.splitlines():
                        say(line)

    run(work())


@commands.command(
    "forget",
    epilog=examples(
        "vigil events forget --request-id 01a214a2-d5f1-7354-adeb-bb61793cf035",
        "vigil events forget --tenant acme -f",
        "vigil events forget --text - < prompt.txt",
        "",
        "Deletes what was received until now: rows, feedback, kept decisions, dead letters and messages of the queue.",
        "The running service carries it out; an order that is interrupted goes on at its next start.",
    ),
)
def forget(
    request_id: Annotated[UUID | None, typer.Option("--request-id", help="All of this request.")] = None,
    key_id: Annotated[str | None, typer.Option("--key-id", help="All of this key; the key itself stays.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="All of this tenant.")] = None,
    text_hash: Annotated[str | None, typer.Option("--text-hash", help="All of the text with this digest.")] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", parser=readable, metavar="FILE|-", help="All of the text in this file, as it is."),
    ] = None,
    force: ForceOption = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete what is stored of a request, key, tenant or text."""
    named = {"request_id": request_id, "key_id": key_id, "tenant": tenant, "text_hash": text_hash}
    chosen: dict[str, Any] = {name: value for name, value in named.items() if value is not None}

    async def work() -> Exit:
        from app.messaging.forgetting import Orders, give_order, what_to_forget

        request = checked(ForgetRequest, chosen | ({"text": text_of(text)} if text is not None else {}))
        kind, value = what_to_forget(request, settings_of_service().privacy.hash_key_bytes)
        if not force:
            await asyncio.to_thread(typer.confirm, f"Forget this {kind} for good?", abort=True, err=True)
        async with opened(server) as admin:
            orders = Orders()
            orders.jetstream = admin.jetstream
            await orders.refresh()
            order = await give_order(admin.jetstream, orders, kind, value, actor())
            until = time.monotonic() + WAIT_S
            while order.state is ForgetState.PENDING and time.monotonic() < until:
                await asyncio.sleep(POLL_S)
                order = await orders.find(order.forget_id)
        if as_json:
            emit(ForgetReport.of(order))
        else:
            facts([("Order", order.forget_id), ("State", order.state), *_removed(ForgetReport.of(order))])
        if order.state is ForgetState.PENDING:
            note("Not done yet: it goes on as soon as a running service can reach the event log.")
            return Exit.PROBLEM
        return Exit.OK

    if str(text) == "-" and not force:
        raise typer.BadParameter("a text from standard input leaves nobody to ask: give --force")
    run(work())


def filters(
    decision: list[Verdict] | None,
    category: list[Category] | None,
    source: Source | None,
    mode: Mode | None,
    policy: str | None,
    tenant: str | None,
    key_id: str | None,
    since: datetime | None,
    before: datetime | None,
    min_score: int | None,
    max_score: int | None,
    pii_type: str | None,
    has_feedback: bool | None,
) -> dict[str, Any]:
    """Return the fields of an EventFilter that options name."""
    return {
        "decision": decision or [],
        "category": category or [],
        "source": source,
        "mode": mode,
        "policy": policy,
        "tenant": tenant,
        "key_id": key_id,
        "since": since,
        "before": before,
        "min_score": min_score,
        "max_score": max_score,
        "pii_type": pii_type,
        "has_feedback": has_feedback,
    }


def without_texts(detail: EventDetail) -> EventDetail:
    """Return an event as it is shown without --text."""
    record = detail.record
    answer = record.answer.model_copy(update={"sanitized_text": None})
    return detail.model_copy(update={"record": record.model_copy(update={"answer": answer, "redacted_text": None})})


def _removed(report: ForgetReport) -> list[tuple[str, object]]:
    return [(name.replace("_", " ").capitalize(), count) for name, count in report.removed.model_dump().items()]


def _branch_row(name: str, result: BranchResult) -> tuple[object, ...]:
    score = "failed" if result.degraded else Figure(f"{result.score:.1f}")
    return name, score, Figure(f"{result.confidence:.3f}"), " ".join(result.signals)


def _finding_rows(findings: list[Finding]) -> list[tuple[object, ...]]:
    """Return a row for each rule: a long text has a finding for each of its names."""
    scores: dict[tuple[str, str, str], list[float]] = {}
    for each in findings:
        scores.setdefault((each.detector, each.rule, each.action), []).append(each.score)
    return [(*found, len(those), Figure(f"{max(those):.0f}")) for found, those in scores.items()]


def _message_row(verdict: MessageVerdict) -> tuple[object, ...]:
    found = dict.fromkeys(f"{each.detector}:{each.rule}" for each in verdict.findings)
    decision = verdict.decision if verdict.judged else f"{verdict.decision}, not judged"
    return verdict.index, verdict.role, decision, verdict.score, " ".join(verdict.categories), " ".join(found)
