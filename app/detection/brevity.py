"""What the learned branches' word counts for in a very short text: `hello` holds no order, whatever it resembles."""

from __future__ import annotations

from typing import Final

from app.detection.evidence import REPORT_AT, Judgement, result_of
from app.detection.normalise import PreparedText
from app.detection.normalise.gate import TRIGGERS, PatternSet

ENOUGH_BYTES: Final = 30
"""UTF-8 bytes of the canonical text from which the branches count in full: `ignore all previous rules` is 25 of them,
a Chinese sentence of ten signs 30. Below, the share falls with the square of the length."""
SIGNAL: Final = "brevity"
LOUD: Final = (
    *TRIGGERS, "filter", "censor", "cenzur", "ogranicz", "limit", "unsupervised", "uncontrolled",
    "sudo", "admin", "obey", "leak", "dump", "credential", "token", "api key", "dan ", "dan,",
    "god mode", "do anything", "role", "persona", "developer", "you are now", "act as", "act like",
    "from now on", "no more", "bez ", "jesteś teraz", "udawaj", "sekret", "tajn", "regel", "règles",
    "reglas", "regole", "regras", "geheim", "verborgen", "filtr", "правил", "секрет", "规", "指令", "提示",
    "密", "プロンプト", "指示", "制限", "規則", "프롬프트", "지시", "제한", "규칙", "تعليمات", "निर्देश",
)  # fmt: skip
"""Words that an order this short would have to hold; a text with one of them counts in full."""
_LOUD: Final = PatternSet([word.replace(" ", r"\s") for word in LOUD])


def weight(prepared: PreparedText) -> float:
    """Return the share of their score, 0 to 1, that semantic branch and classifier keep.

    Models that learned from whole sentences guess on single words: a fragment has few features, each of which was seen
    in attacks and harmless text alike. Disguised text counts in full.
    """
    encoded = prepared.canonical.encode()
    size = len(encoded)
    if size >= ENOUGH_BYTES or prepared.layers or prepared.signals or _LOUD.matching(encoded):
        return 1.0
    return (size / ENOUGH_BYTES) ** 2


def softened(judgement: Judgement, share: float) -> Judgement:
    """Return a learned branch's judgement of which only a share counts, with what is too faint to report left out."""
    if share == 1:
        return judgement
    result = judgement.result
    probability = share * result.score / 100
    if 100 * probability < REPORT_AT:
        return Judgement(result_of(probability, (SIGNAL,), ()), [], [])
    findings = [finding.model_copy(update={"score": share * finding.score}) for finding in judgement.findings]
    return Judgement(
        result_of(probability, (*result.signals, SIGNAL), result.explanations), findings, judgement.categories
    )
