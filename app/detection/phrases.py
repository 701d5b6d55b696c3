"""Allow and deny lists carried out: literal phrases found in one linear pass each, with their spans.

Denied phrases are looked for in what the detectors read, so no disguise hides one. Allowed ones are taken as they stand
(case and white space aside): reading them through a disguise would let hidden orders pass beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from app.contracts import BranchName, BranchResult, DetectionReport, Finding
from app.detection.normalise import PreparedText, prepare
from app.detection.phrase_search import EXACT, LOOSE, PhraseSearch
from app.errors import PolicyRefused
from app.lists import AllowList, DenyRule
from app.pinned import DetectionRules

DETECTOR: Final = "deny_list"
ALLOWED: Final = "allow_list"
"""Signal of a branch that had nothing to judge."""
MAX_SPANS_PER_RULE: Final = 5
MAX_FINDINGS: Final = 50
MAX_MATCHES: Final = 10_000
"""Most matches of one text that are looked at: what blocks is known after the first."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Deny rules that a text falls under, and where."""

    rules: list[str]
    findings: list[Finding]


class DenyPhrases:
    """The phrases of a deny list, ready to be looked for."""

    __slots__ = ("_rules", "_search")

    def __init__(self, rules: Sequence[DenyRule]) -> None:
        """Take the phrases in the form that texts are read in.

        Raises:
            PolicyRefused: a phrase has no character that is read; names the field.
        """
        self._rules = [each.rule for each in rules for _ in each.phrases]
        self._search = PhraseSearch(
            [
                _words(LOOSE, prepare(phrase).folded, f"deny_list.{number}.phrases")
                for number, each in enumerate(rules)
                for phrase in each.phrases
            ]
        )

    def of(self, text: PreparedText) -> Denied:
        """Return which rules the text falls under, in the text itself or in what was encoded in it."""
        found: dict[str, dict[tuple[int, int], None]] = {}
        for rule, start, end in self._matches(text.folded):
            found.setdefault(rule, {})[text.original_span(start, end)] = None
        for layer in text.layers:
            for rule, _, _ in self._matches(layer.folded):
                found.setdefault(rule, {})[layer.start, layer.end] = None
        findings = [
            Finding(detector=DETECTOR, rule=rule, start=start, end=end, score=100)
            for rule, spans in found.items()
            for start, end in list(spans)[:MAX_SPANS_PER_RULE]
        ]
        return Denied(list(found), findings[:MAX_FINDINGS])

    def _matches(self, folded: str) -> Iterator[tuple[str, int, int]]:
        places = list(LOOSE.finditer(folded))
        matches = self._search.find([place[0] for place in places])
        for number, first, last in islice(matches, MAX_MATCHES):
            yield self._rules[number], places[first].start(), places[last - 1].end()


class AllowPhrases:
    """The texts and phrases of an allow list, ready to be looked for."""

    __slots__ = ("_search", "_texts")

    def __init__(self, allowed: AllowList) -> None:
        self._texts = frozenset(_plain(text) for text in allowed.texts)
        phrases = [_words(EXACT, _lowered(phrase), "allow_list.phrases") for phrase in allowed.phrases]
        self._search = PhraseSearch(phrases) if phrases else None

    def remainder(self, text: str) -> str:
        """Return the text with blanks in place of what is allowed, so that offsets stay; blank when all of it is."""
        if self._texts and _plain(text) in self._texts:
            return " " * len(text)
        if self._search is None:
            return text
        places = list(EXACT.finditer(_lowered(text)))
        pieces: list[str] = []
        position = 0
        spans = [
            (places[first].start(), places[last - 1].end())
            for _, first, last in self._search.find([place[0] for place in places])
        ]
        for start, end in sorted(spans):
            if end > position:
                start = max(start, position)
                pieces += text[position:start], " " * (end - start)
                position = end
        return "".join((*pieces, text[position:])) if pieces else text


@dataclass(frozen=True, slots=True)
class CompiledLists:
    """What of one policy's lists, and of its shadow's, is looked for in texts."""

    deny: DenyPhrases | None
    shadow_deny: DenyPhrases | None
    allow: AllowPhrases | None

    @classmethod
    def of(cls, rules: DetectionRules) -> CompiledLists:
        return cls(
            DenyPhrases(rules.deny) if rules.deny else None,
            DenyPhrases(rules.shadow_deny) if rules.shadow_deny else None,
            AllowPhrases(rules.allow) if rules.allow.texts or rules.allow.phrases else None,
        )

    def denied(self, text: str) -> tuple[Denied | None, Denied | None]:
        """Return what the policy and its shadow deny of a text; None where they deny nothing in it."""
        if self.deny is None and self.shadow_deny is None:
            return None, None
        prepared = prepare(text)
        found = [lists.of(prepared) if lists is not None else None for lists in (self.deny, self.shadow_deny)]
        policy, shadow = (each if each is not None and each.rules else None for each in found)
        return policy, shadow


def check_lists(allow: AllowList, deny: Sequence[DenyRule]) -> None:
    """Check that a policy's lists can be carried out.

    Raises:
        PolicyRefused: they cannot; names the field.
    """
    AllowPhrases(allow)
    if deny:
        DenyPhrases(deny)


def with_denied(report: DetectionReport, policy: Denied | None, shadow: Denied | None) -> DetectionReport:
    if policy is None and shadow is None:
        return report
    denied = policy if policy is not None else Denied([], [])
    return report.model_copy(
        update={
            "denied": denied.rules,
            "shadow_denied": shadow.rules if shadow is not None else [],
            "findings": [*denied.findings, *report.findings],
        }
    )


def nothing_to_judge(branches: Iterable[BranchName], model_version: str) -> DetectionReport:
    """Return the report of a text that is allowed as a whole."""
    result = BranchResult(score=0, confidence=1, signals=[ALLOWED])
    return DetectionReport(
        branches={name: result for name in BranchName if name in set(branches)},
        allowed="text",
        model_version=model_version,
    )


def _words(form: re.Pattern[str], phrase: str, field: str) -> list[str]:
    words = form.findall(phrase)
    if not words:
        raise PolicyRefused(f"{field}: a phrase has no character that detection reads", field=field)
    return words


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _lowered(text: str) -> str:
    """Return the text in lower case with as many code points: a few letters, as the dotted capital I, grow."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)
