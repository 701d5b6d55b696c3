"""The decision about a chat: each message, and each tool call's arguments, decided as a text is; the worst counts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from app.arbiter.decide import MAX_EXPLANATIONS, Judgement, decide
from app.arbiter.policy import Policy
from app.chat import Content, ContentPart
from app.contracts import (
    MAX_LISTED_SPANS,
    ArgumentFinding,
    ArgumentsVerdict,
    BranchName,
    BranchResult,
    CallPlace,
    Category,
    DecideJob,
    DetectionReport,
    Finding,
    GuardedText,
    MessageReport,
    MessageVerdict,
    SanitizedArgument,
    Verdict,
)

SEVERITY: Final = (Verdict.ALLOWED, Verdict.SANITIZED, Verdict.BLOCKED)
UNJUDGED: Final = {name: BranchResult(score=0, confidence=0) for name in BranchName}
"""Stands for the branches of a message that is not judged for attacks."""
TOGETHER: Final = "It was judged together with the user's messages right before it."


@dataclass(frozen=True, slots=True)
class ChatJudgement:
    whole: Judgement
    """Findings count in the conversation's text; there is no text to use, but that of each message."""
    branches: dict[BranchName, BranchResult]
    """Those of the message with the highest score."""
    messages: list[MessageVerdict]


@dataclass(frozen=True, slots=True)
class _Judged:
    index: int
    report: MessageReport
    detection: DetectionReport
    """What the score rests on: the message alone, or with those before it."""
    judgement: Judgement


def decide_chat(job: DecideJob, conversation: Sequence[MessageReport], policy: Policy) -> ChatJudgement:
    """Decide about a chat; deterministic, without input or output.

    The whole is what its worst message is; contents to use are handed out only where the whole is SANITIZED.
    """
    judged = [_judge(index, report, job, policy) for index, report in _numbered(conversation)]
    worst, highest = _worst(judged), _highest(judged)
    sanitized = worst.judgement.verdict is Verdict.SANITIZED
    whole = replace(
        worst.judgement,
        score=highest.judgement.score,
        threat_level=highest.judgement.threat_level,
        categories=list(_categories(judged)),
        explanations=_explanations(worst, judged),
        boosts=highest.judgement.boosts,
        findings=list(_shifted(judged))[:MAX_LISTED_SPANS],
        sanitized_text=None,
    )
    return ChatJudgement(
        whole,
        highest.detection.branches,
        [
            _verdict(list(of_message), job, sanitized=sanitized)
            for _, of_message in groupby(judged, key=lambda each: each.index)
        ],
    )


def _worst(judged: Sequence[_Judged]) -> _Judged:
    return max(judged, key=lambda each: _gravity(each.judgement))


def _gravity(judgement: Judgement) -> tuple[int, int]:
    return SEVERITY.index(judgement.verdict), judgement.score


def _highest(judged: Sequence[_Judged]) -> _Judged:
    return max(judged, key=lambda each: (each.report.detection is not None, each.judgement.score))


def _numbered(conversation: Sequence[MessageReport]) -> Iterator[tuple[int, MessageReport]]:
    """Yield each report with the index of its message: those of tool calls follow their message's."""
    index = -1
    for report in conversation:
        index += report.call is None
        yield index, report


def _judge(index: int, report: MessageReport, job: DecideJob, policy: Policy) -> _Judged:
    """Decide one message, by itself and with those before it, and keep what is worse."""
    alone = report.detection or DetectionReport(branches=UNJUDGED, model_version=job.detection.model_version)
    judged = _Judged(index, report, alone, decide(job_of(report, alone, job), policy))
    if report.together is None:
        return judged
    together = report.together.model_copy(update={"findings": alone.findings})
    judgement = decide(job_of(report, together, job), policy)
    # A deny list or harmful content blocks at any score.
    if _gravity(judgement) <= _gravity(judged.judgement):
        return judged
    higher, seen = (judgement, together) if judgement.score >= judged.judgement.score else (judged.judgement, alone)
    said = replace(
        judgement,
        score=higher.score,
        threat_level=higher.threat_level,
        boosts=higher.boosts,
        explanations=[TOGETHER, *judgement.explanations][:MAX_EXPLANATIONS],
    )
    return _Judged(index, report, seen, said)


def job_of(report: MessageReport, detection: DetectionReport, job: DecideJob) -> DecideJob:
    """Return the job that this message would be as a text of its own."""
    subject = job.subject
    # The digest of this text alone is not known, and not needed: `redacted` says whether anything was changed.
    own = GuardedText(digest="", length=report.length, mode=subject.mode, source=subject.source, policy=subject.policy)
    return DecideJob(
        subject=own,
        detection=detection,
        pii=report.pii if job.pii.scanned else job.pii,
        redacted_text="".join(_texts(report, job)) if report.redacted is not None else None,
        kept=report.kept,
    )


def _texts(report: MessageReport, job: DecideJob) -> list[str]:
    text = job.redacted_text or ""
    return [text[start:end] for start, end in report.redacted or ()]


def _verdict(of_message: Sequence[_Judged], job: DecideJob, *, sanitized: bool) -> MessageVerdict:
    """Return what is decided of a message.

    Args:
        of_message: its content, then the arguments of each of its tool calls.
        job: with the redacted texts.
        sanitized: whether texts are handed out.
    """
    content, *calls = of_message
    worst, highest = _worst(of_message), _highest(of_message)
    report = content.report
    return MessageVerdict(
        index=content.index,
        role=report.role,
        judged=any(each.report.detection is not None for each in of_message),
        decision=worst.judgement.verdict,
        score=highest.judgement.score,
        threat_level=highest.judgement.threat_level,
        categories=list(_categories(of_message)),
        findings=content.judgement.findings,
        sanitized_content=_content(report, _texts(report, job)) if _is_changed(content, sanitized) else None,
        not_judged=report.not_judged,
        arguments=[_arguments(each, each.report.call, job, sanitized=sanitized) for each in calls if each.report.call]
        or None,
    )


def _arguments(judged: _Judged, place: CallPlace, job: DecideJob, *, sanitized: bool) -> ArgumentsVerdict:
    judgement, report = judged.judgement, judged.report
    texts = _texts(report, job) if _is_changed(judged, sanitized) else None
    return ArgumentsVerdict(
        path=place.path,
        decision=judgement.verdict,
        score=judgement.score,
        threat_level=judgement.threat_level,
        categories=judgement.categories,
        findings=[_within(finding, report, place) for finding in judgement.findings],
        sanitized_texts=None
        if texts is None
        else [
            SanitizedArgument(pointer=pointer, text=text) for pointer, text in zip(place.pointers, texts, strict=True)
        ],
    )


def _is_changed(judged: _Judged, sanitized: bool) -> bool:
    return sanitized and judged.judgement.verdict is Verdict.SANITIZED


def _within(finding: Finding, report: MessageReport, place: CallPlace) -> ArgumentFinding:
    """Return a finding of a call's texts as one of the text that it begins in."""
    ends = [end - report.start for _, end in report.texts]
    number = min(bisect_right(ends, finding.start), len(ends) - 1)
    start, end = (each - report.start for each in report.texts[number])
    return ArgumentFinding(
        **dict(finding)
        | {
            "start": max(finding.start - start, 0),
            "end": min(finding.end, end) - start,
            "pointer": place.pointers[number],
        }
    )


def _content(report: MessageReport, texts: Sequence[str]) -> Content:
    if report.parts is None:
        return texts[0]
    rest = iter(texts)
    bare = [(ContentPart.model_construct(type=part.type), part.holds) for part in report.parts]
    return [part if holds is None else part.model_copy(update={holds: next(rest)}) for part, holds in bare]


def _categories(judged: Sequence[_Judged]) -> Iterator[Category]:
    """Yield all categories once, those of the highest score first."""
    ranked = sorted(judged, key=lambda each: -each.judgement.score)
    yield from dict.fromkeys(category for each in ranked for category in each.judgement.categories)


def _explanations(worst: _Judged, judged: Sequence[_Judged]) -> list[str]:
    """Return the reasons of the worst message, then those of the others that are no better than SANITIZED."""
    others = [each for each in judged if each is not worst and each.judgement.verdict is not Verdict.ALLOWED]
    sentences = [
        f"Message {each.index} ({each.report.role}{_place(each.report)}): {sentence}"
        for each in (worst, *others)
        for sentence in each.judgement.explanations
    ]
    return sentences[:MAX_EXPLANATIONS]


def _place(report: MessageReport) -> str:
    return "" if report.call is None else f", {report.call.path}"


def _shifted(judged: Sequence[_Judged]) -> Iterator[Finding]:
    for each in judged:
        start = each.report.start
        for finding in each.judgement.findings:
            yield finding.model_copy(update={"start": finding.start + start, "end": finding.end + start})
