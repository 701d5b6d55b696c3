"""The heuristics branch: rules over the normalised text and over everything that was hidden in it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

from app.contracts import BranchName, BranchResult, Category, Finding, Source
from app.detection.normalise import Layer, PreparedText
from app.detection.patterns import CompiledRule, Patterns

MAX_FINDINGS: Final = 50
"""Most spans one result lists, strongest first: enough to show, and small beside the message limit."""
MAX_EXPLANATIONS: Final = 8
OBFUSCATION: Final = "obfuscation"
"""Signal that something was found only under an encoding or behind hidden characters."""
OBFUSCATION_BONUS: Final = 8
"""Points a rule gains when its match was hidden: people do not encode what they ask openly."""
CRITICAL_CONFIDENCE: Final = 0.97
SILENT_CONFIDENCE: Final = 0.5
"""Confidence when nothing fired: rules say nothing about quiet attacks."""
QUOTED_FACTOR: Final = 0.6
"""What a match between quotation marks counts: most quoted orders are reported, not given."""
_QUOTE: Final = b'"'
_STRUCTURE: Final = b":,[{=("
"""Before a quotation mark, these make it a delimiter of data or code rather than a sign of speech."""


@dataclass(frozen=True, slots=True)
class HeuristicsResult:
    result: BranchResult
    findings: list[Finding]
    categories: list[Category]


@dataclass(frozen=True, slots=True)
class _Match:
    rule: CompiledRule
    score: float
    spans: list[tuple[int, int]]
    """Code points of the original."""
    hidden: bool = False
    quoted: bool = False


class Heuristics:
    """Judges a prepared text by rules. Holds nothing that changes, so one instance serves all threads."""

    name: Final = BranchName.HEURISTICS

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns

    def judge(self, text: PreparedText, source: Source) -> HeuristicsResult:
        """Return score (0 to 100), confidence (0 to 1) and spans in code points of the original text.

        Scores of the rules that fired are joined as independent evidence (noisy or): two rules of 60 make 84. Of
        matches in quoted speech only the strongest counts, as one piece of evidence; likewise of unusual characters,
        which alone never block: harmless text is written in them too.
        """
        started = time.perf_counter()
        matches = self._open_matches(text, source)
        seen = {match.rule.rule.id for match in matches if match.score >= match.rule.rule.score}
        for layer in text.layers:
            matches.extend(self._layer_matches(layer, source, seen))
        for signal in text.signals:
            compiled = self._patterns.signal_rules.get(signal)
            if compiled is not None and source in compiled.rule.sources:
                matches.append(_Match(compiled, compiled.rule.score, [(0, len(text.original))]))
        if not matches:
            latency_ms = (time.perf_counter() - started) * 1000
            signals = list(text.signals)
            return HeuristicsResult(
                BranchResult(score=0, confidence=SILENT_CONFIDENCE, signals=signals, latency_ms=latency_ms), [], []
            )
        return _result(text, matches, started)

    def _open_matches(self, text: PreparedText, source: Source) -> list[_Match]:
        encoded = text.folded.encode()
        fired = [
            compiled for compiled in self._patterns.pattern_rules.matching(encoded) if source in compiled.rule.sources
        ]
        if not fired:
            return []
        factor = self._quote_factor(encoded)
        matches = []
        for compiled in fired:
            spans = compiled.spans(encoded)
            quoted = factor < 1 and all(_is_quoted(encoded, start, end) for start, end in spans)
            points = [_code_points(encoded, span) for span in spans]
            hidden = bool(text.signals) and any(_is_disguised(text, start, end) for start, end in points)
            score = compiled.rule.score * (factor if quoted else 1)
            if hidden:
                score = min(100, score + OBFUSCATION_BONUS)
            matches.append(_Match(compiled, score, [text.original_span(*span) for span in points], hidden, quoted))
        return matches

    def _quote_factor(self, encoded: bytes) -> float:
        """Return what quoted matches count in this text: less when it talks about attacks."""
        if encoded.count(_QUOTE) < 2:
            return 1.0
        factors = [damper.factor for damper, regex in self._patterns.dampers if regex.search(encoded)]
        return min(factors, default=QUOTED_FACTOR)

    def _layer_matches(self, layer: Layer, source: Source, seen: set[str]) -> list[_Match]:
        encoded = layer.folded.encode()
        fired = [
            compiled
            for compiled in self._patterns.pattern_rules.matching(encoded)
            if source in compiled.rule.sources and compiled.rule.id not in seen
        ]
        if not fired:
            return []
        factor = self._quote_factor(encoded)
        matches = []
        for compiled in fired:
            seen.add(compiled.rule.id)
            quoted = factor < 1 and all(_is_quoted(encoded, start, end) for start, end in compiled.spans(encoded))
            score = min(100, compiled.rule.score * (factor if quoted else 1) + OBFUSCATION_BONUS)
            matches.append(_Match(compiled, score, [(layer.start, layer.end)], hidden=True, quoted=quoted))
        return matches


def _result(text: PreparedText, matches: list[_Match], started: float) -> HeuristicsResult:
    matches.sort(key=lambda match: -match.score)
    quoted: list[float] = []
    odd: list[float] = []
    plain: list[float] = []
    for match in matches:
        (quoted if match.quoted else odd if match.rule.regex is None else plain).append(match.score / 100)
    doubt = (1 - max(quoted, default=0)) * (1 - max(odd, default=0)) * math.prod(1 - score for score in plain)
    score = round(100 * (1 - doubt), 1)
    critical = any(match.rule.rule.critical and match.score >= match.rule.rule.score for match in matches)
    hidden = any(match.hidden for match in matches)
    signals = list(dict.fromkeys(match.rule.rule.id for match in matches))
    if hidden:
        signals.append(OBFUSCATION)
    signals.extend(signal for signal in text.signals if signal not in signals)
    categories = list(dict.fromkeys(match.rule.rule.category for match in matches))
    if hidden and Category.OBFUSCATION not in categories:
        categories.append(Category.OBFUSCATION)
    result = BranchResult(
        score=score,
        confidence=CRITICAL_CONFIDENCE if critical else round(SILENT_CONFIDENCE + score / 250, 3),
        signals=signals,
        explanations=list(dict.fromkeys(match.rule.rule.explanation for match in matches))[:MAX_EXPLANATIONS],
        latency_ms=(time.perf_counter() - started) * 1000,
    )
    return HeuristicsResult(result, _findings(matches), categories)


def _findings(matches: list[_Match]) -> list[Finding]:
    findings: list[Finding] = []
    for match in matches:
        for start, end in match.spans:
            if len(findings) == MAX_FINDINGS:
                return findings
            findings.append(
                Finding(detector="heuristics", rule=match.rule.rule.id, start=start, end=end, score=match.score)
            )
    return findings


def _code_points(encoded: bytes, span: tuple[int, int]) -> tuple[int, int]:
    if encoded.isascii():
        return span
    start = len(encoded[: span[0]].decode())
    return start, start + len(encoded[span[0] : span[1]].decode())


def _is_quoted(encoded: bytes, start: int, end: int) -> bool:
    """Tell whether a match stands in quoted speech on its line (folding has made quotation marks alike).

    A value of JSON or an argument in code is not speech: there an order may well be planted.
    """
    line = encoded.rfind(b"\n", 0, start) + 1
    if encoded.count(_QUOTE, line, start) % 2 == 0:
        return False
    opening = encoded.rfind(_QUOTE, line, start)
    before = encoded[line:opening].rstrip()[-1:]
    return encoded.find(_QUOTE, end) >= 0 and (not before or before not in _STRUCTURE)


def _is_disguised(text: PreparedText, start: int, end: int) -> bool:
    """Tell whether what matched is written with look-alikes or hidden characters in the original."""
    first, last = text.original_span(start, end)
    plain = " ".join(text.original[first:last].casefold().split())
    return plain != " ".join(text.canonical[start:end].split())
