"""The decision: a pure function from all that is known of a text and a policy to a verdict with its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import filterfalse, zip_longest
from typing import Final, NamedTuple

from app.arbiter.boosts import Boost
from app.arbiter.policy import Policy
from app.arbiter.scale import BRANCHES, CLASSIFIER, HEURISTICS, SEMANTIC, rounded
from app.contracts import (
    MAX_LISTED_SPANS,
    Action,
    BranchName,
    BranchResult,
    Category,
    DecideJob,
    DetectionReport,
    Finding,
    Mode,
    PiiReport,
    ThreatLevel,
    Verdict,
)
from app.identity import text_digest
from app.redaction import RedactionTable

LEAK_SCORE: Final = 100
"""Score of a text that gives away a canary or the system prompt: nothing is left to weigh, and no policy allows it."""
MAX_EXPLANATIONS: Final = 12
"""Most sentences one answer carries; more is not read. Branches share what the arbiter's own sentences leave."""
MAX_NAMED_TYPES: Final = 5
"""Most kinds of personal data that one sentence names; all are in the answer's entities."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the arbiter decided, in the types of `GuardAnswer`."""

    verdict: Verdict
    score: int
    """0 to 100: the weighted mean, rounded once (halves upwards) and then raised by boosts."""
    threat_level: ThreatLevel
    categories: list[Category]
    explanations: list[str]
    """At most MAX_EXPLANATIONS different sentences for people; none quotes the text."""
    boosts: list[str]
    """Names of the boosts that raised the score, in order."""
    findings: list[Finding]
    """At most MAX_LISTED_SPANS: detection's first, then personal data."""
    sanitized_text: str | None
    """The text to use when the verdict is SANITIZED, else None."""


class Rating(NamedTuple):
    """How dangerous the branches and the policy's boosts make a text."""

    score: int
    healthy: dict[BranchName, BranchResult]
    """The branches that did not fail."""
    boosts: list[Boost]
    """The boosts that raised the score, in order."""


class PiiState(NamedTuple):
    """What the personal-data scan means for the decision."""

    found: bool
    scan_failed: bool
    redacted_text: str | None
    """A text that can be handed out in place of the original; None where there is none or none is needed."""
    unredacted: bool
    """Personal data was found that the policy does not keep, and there is no text without it."""


def decide(job: DecideJob, policy: Policy) -> Judgement:
    """Decide about one text; deterministic, without input or output.

    The verdict is BLOCKED when the score reaches the policy's threshold (as it does under every policy for a text that
    gives away what the caller keeps secret), or when the policy blocks harmful content, a phrase of its deny list, or a
    text that it could not redact; the last three leave the score alone, because they say nothing about injection. Else
    it is SANITIZED when personal data was found and redacted, else ALLOWED.

    Detection findings of a text that is blocked for its score or content carry the action `block`, personal data of a
    SANITIZED text `redact` unless the policy keeps its kind, all others `none`.
    """
    detection, pii = job.detection, job.pii
    rating = rate(detection, policy)
    state = pii_state(job)
    threat_blocked = is_threat(detection, policy, rating)
    verdict = verdict_on(policy, state, threat_blocked=threat_blocked)

    categories = list(dict.fromkeys(detection.categories))
    if state.found and Category.PERSONAL_DATA not in categories:
        categories.append(Category.PERSONAL_DATA)
    return Judgement(
        verdict=verdict,
        score=rating.score,
        threat_level=policy.levels.of(rating.score),
        categories=categories,
        explanations=explain(job, policy, rating, state, verdict),
        boosts=[boost.name for boost in rating.boosts],
        findings=list_findings(
            detection,
            pii,
            detection_action=Action.BLOCK if threat_blocked else Action.NONE,
            pii_action=Action.REDACT if verdict is Verdict.SANITIZED else Action.NONE,
            redaction=policy.redaction,
        ),
        sanitized_text=state.redacted_text if verdict is Verdict.SANITIZED else None,
    )


def is_threat(detection: DetectionReport, policy: Policy, rating: Rating) -> bool:
    """Return whether the policy blocks the text for what it attempts or says, personal data aside."""
    return (
        rating.score >= policy.block_at
        or bool(detection.denied)
        or (policy.harmful_content == "block" and Category.HARMFUL_CONTENT in detection.categories)
    )


def verdict_on(policy: Policy, state: PiiState, *, threat_blocked: bool) -> Verdict:
    pii_blocked = policy.redact and policy.pii_degraded == "block" and (state.scan_failed or state.unredacted)
    if threat_blocked or pii_blocked:
        return Verdict.BLOCKED
    return Verdict.SANITIZED if policy.redact and state.redacted_text is not None else Verdict.ALLOWED


def rate(detection: DetectionReport, policy: Policy) -> Rating:
    """Return the rounded weighted mean of the branches, raised by the policy's boosts.

    The mean is rounded before the boosts, so that boosts, level and verdict read the same number that the answer shows.
    Without any healthy branch the score is the lowest one that blocks, as nothing was seen that could justify a higher
    one; or 0 where the policy lets such text pass. A text that gives away a secret scores LEAK_SCORE.
    """
    on = policy.branches.on
    healthy = {name: result for name, result in detection.branches.items() if name in on and not result.degraded}
    if detection.leaked:
        return Rating(LEAK_SCORE, healthy, [])
    if not healthy:
        return Rating(policy.block_at if policy.all_degraded == "block" else 0, healthy, [])
    score = rounded(weighted_mean(detection.branches, policy))
    raised: list[Boost] = []
    for boost in policy.boosts:
        if boost.enabled and boost.raise_to > score and boost.applies(score, healthy, policy.levels):
            score = boost.raise_to
            raised.append(boost)
    return Rating(score, healthy, raised)


def weighted_mean(branches: dict[BranchName, BranchResult], policy: Policy) -> float:
    """Return the mean score (0 to 100) of the branches that are on; a degraded branch counts with `degraded_factor` of
    its weight, a missing one as a degraded one of score 0. At least one branch must be healthy."""
    weights, on = policy.weights, policy.branches.on
    total = weighted = 0.0
    for name, weight in (
        (HEURISTICS, weights.heuristics),
        (SEMANTIC, weights.semantic),
        (CLASSIFIER, weights.classifier),
    ):
        if name not in on:
            continue
        result = branches.get(name)
        if result is None or result.degraded:
            weight *= policy.degraded_factor
        total += weight
        if result is not None:
            weighted += weight * result.score
    return weighted / total


def pii_state(job: DecideJob) -> PiiState:
    """Read the scan's report with suspicion: a full-mode job without a scan counts as a failed one.

    A redacted text that equals the original is no redaction. The original itself is not known here, only its digest:
    where that is keyed, an unchanged text cannot be recognised.
    """
    pii, subject, redacted_text = job.pii, job.subject, job.redacted_text
    count = max(pii.count, len(pii.entities))
    unwanted = count > job.kept
    if not unwanted or (
        redacted_text is not None
        and len(redacted_text) == subject.length
        and text_digest(redacted_text) == subject.digest
    ):
        redacted_text = None
    return PiiState(
        found=count > 0,
        scan_failed=pii.degraded or (subject.mode is Mode.FULL and not pii.scanned),
        redacted_text=redacted_text,
        unredacted=unwanted and redacted_text is None,
    )


def list_findings(
    detection: DetectionReport,
    pii: PiiReport,
    *,
    detection_action: Action,
    pii_action: Action,
    redaction: RedactionTable,
) -> list[Finding]:
    """Return detection's findings and one per personal-data entity (score 0 to 100), with their actions."""
    findings = [
        finding if finding.action == detection_action else with_action(finding, detection_action)
        for finding in detection.findings[:MAX_LISTED_SPANS]
    ]
    # Not model_construct: in pydantic 2.14 it takes twice as long as validation (6.7 against 3.4 microseconds).
    findings += [
        Finding(
            detector="pii",
            rule=entity.type,
            start=entity.start,
            end=entity.end,
            score=entity.score * 100,
            action=Action.NONE if redaction.keeps(entity.type) else pii_action,
        )
        for entity in pii.entities[: MAX_LISTED_SPANS - len(findings)]
    ]
    return findings


def with_action(finding: Finding, action: Action) -> Finding:
    return Finding(
        detector=finding.detector,
        rule=finding.rule,
        start=finding.start,
        end=finding.end,
        score=finding.score,
        action=action,
    )


def explain(job: DecideJob, policy: Policy, rating: Rating, state: PiiState, verdict: Verdict) -> list[str]:
    """Return the reasons, most telling first: why it was blocked, boosts, what branches say, failures, personal data.

    The arbiter's own sentences are always kept; what the branches say is shortened to fit.
    """
    opening = [*verdict_reasons(job, policy, rating), *[boost.reason() for boost in rating.boosts]]
    closing = [
        *allowed_reasons(job),
        *degraded_reasons(job, policy, rating),
        *pii_reasons(job, policy, state, verdict),
    ]
    room = MAX_EXPLANATIONS - len(opening) - len(closing)
    return [*opening, *branch_reasons(policy, rating)[: max(room, 0)], *closing][:MAX_EXPLANATIONS]


def verdict_reasons(job: DecideJob, policy: Policy, rating: Rating) -> Iterator[str]:
    if job.detection.leaked:
        yield "The text gives away what the caller keeps secret, which every policy blocks."
    elif not rating.healthy:
        yield (
            "No detection branch could judge the text; the policy blocks what was not judged, at the lowest score "
            "that blocks."
            if policy.all_degraded == "block"
            else "No detection branch could judge the text; the policy lets it pass unjudged, at a score of 0."
        )
    elif rating.score >= policy.block_at:
        yield f"The score of {rating.score} reaches the policy's blocking threshold of {policy.block_at}."
    if job.detection.denied:
        yield f"The text holds what the policy's deny list names: {', '.join(job.detection.denied[:MAX_NAMED_TYPES])}."
    if Category.HARMFUL_CONTENT in job.detection.categories:
        outcome = "blocks" if policy.harmful_content == "block" else "only reports"
        yield f"The text asks for harmful content, which the policy {outcome}."


def allowed_reasons(job: DecideJob) -> Iterator[str]:
    if job.detection.allowed == "text":
        yield "The text is on the policy's allow list and was not searched for attacks."
    elif job.detection.allowed == "part":
        yield "A part of the text is on the policy's allow list and was left out of the search for attacks."


def branch_reasons(policy: Policy, rating: Rating) -> list[str]:
    """Return what the healthy branches say, each sentence once: first every branch's first, then the second ones.

    A branch that raises its score above LOW without a word is quoted by its score.
    """
    spoken: dict[str, str] = {}
    branches = [(name, rating.healthy[name]) for name in BRANCHES if name in rating.healthy]
    for name, result in branches:
        if not result.explanations and (score := rounded(result.score)) > policy.levels.low_up_to:
            spoken[name] = f"{name}: scored {score} of 100 ({policy.levels.of(score)})."
    for sentences in zip_longest(*(result.explanations for _, result in branches)):
        for (name, _), sentence in zip(branches, sentences, strict=True):
            if sentence and sentence not in spoken:
                spoken[sentence] = name + ": " + sentence  # An f-string formats an enumeration member ten times slower.
    return list(spoken.values())


def degraded_reasons(job: DecideJob, policy: Policy, rating: Rating) -> Iterator[str]:
    on = policy.branches.on
    for name in BRANCHES:
        if name in on and name not in rating.healthy:
            what = "failed" if name in job.detection.branches else "gave no result"
            weight = f" and counts {policy.degraded_factor:.0%} of its weight" if rating.healthy else ""
            yield f"The {name} branch {what}{weight}."


def pii_reasons(job: DecideJob, policy: Policy, state: PiiState, verdict: Verdict) -> Iterator[str]:
    blocks = policy.redact and policy.pii_degraded == "block"
    if state.scan_failed:
        consequence = "the policy blocks what it cannot redact" if blocks else "the text may contain some"
        yield f"Personal data could not be searched for: {consequence}."
    elif not job.pii.scanned and not state.found:
        yield "Personal data was not searched for: fast mode leaves that out."
    elif job.pii.scope == "patterns":
        yield "Personal data was searched for by its shape alone: names and places were not."
    if not state.found:
        return
    kinds = [entity.type for entity in job.pii.entities]
    if not policy.redact:
        yield f"Personal data was found, which the policy does not redact{name_kinds(kinds)}."
        return
    if job.kept:
        yield f"Personal data was left, as the policy says{name_kinds(filter(policy.redaction.keeps, kinds))}."
    unwanted = name_kinds(filterfalse(policy.redaction.keeps, kinds))
    if verdict is Verdict.SANITIZED:
        yield f"Personal data was redacted{unwanted}."
    elif state.unredacted:
        consequence = "the policy blocks such text" if blocks else "the text still contains it"
        yield f"Personal data was found but could not be redacted{unwanted}; {consequence}."
    elif state.redacted_text is not None:
        yield f"Personal data was found{unwanted}."


def name_kinds(kinds: Iterable[str]) -> str:
    """Return kinds of personal data, each once, as the tail of a sentence: `: EMAIL_ADDRESS, PERSON`."""
    named = list(dict.fromkeys(kinds))
    if not named:
        return ""
    more = " and others" if len(named) > MAX_NAMED_TYPES else ""
    return f": {', '.join(named[:MAX_NAMED_TYPES])}{more}"
