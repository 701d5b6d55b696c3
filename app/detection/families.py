"""The families of attacks and of harmless text that the semantic branch tells apart."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from app.contracts import Category


class Family(StrEnum):
    INSTRUCTION_OVERRIDE = "instruction_override"
    PROMPT_EXTRACTION = "prompt_extraction"
    PERSONA = "persona"
    FICTION_FRAME = "fiction_frame"
    FALSE_AUTHORITY = "false_authority"
    SECRET_GAME = "secret_game"  # noqa: S105
    AGENT_ABUSE = "agent_abuse"
    FORGED_TURNS = "forged_turns"
    TASK_HIJACK = "task_hijack"
    REFUSAL_SUPPRESSION = "refusal_suppression"
    OBFUSCATION = "obfuscation"
    SAFETY_EVASION = "safety_evasion"
    PLANTED_DOCUMENT = "planted_document"
    PLANTED_TOOL_OUTPUT = "planted_tool_output"
    BENIGN_EVERYDAY = "benign_everyday"
    BENIGN_TRIGGER_WORDS = "benign_trigger_words"
    BENIGN_REQUEST = "benign_request"
    BENIGN_FICTION = "benign_fiction"
    BENIGN_SENSITIVE = "benign_sensitive"
    BENIGN_CODE = "benign_code"
    BENIGN_DOCUMENT = "benign_document"
    BENIGN_TOOL_OUTPUT = "benign_tool_output"

    @property
    def is_attack(self) -> bool:
        return self in CATEGORY_OF


CATEGORY_OF: Final[dict[Family, Category]] = {
    Family.INSTRUCTION_OVERRIDE: Category.PROMPT_INJECTION,
    Family.PROMPT_EXTRACTION: Category.SYSTEM_PROMPT_LEAK,
    Family.PERSONA: Category.JAILBREAK,
    Family.FICTION_FRAME: Category.JAILBREAK,
    Family.FALSE_AUTHORITY: Category.PROMPT_INJECTION,
    Family.SECRET_GAME: Category.SYSTEM_PROMPT_LEAK,
    Family.AGENT_ABUSE: Category.PROMPT_INJECTION,
    Family.FORGED_TURNS: Category.PROMPT_INJECTION,
    Family.TASK_HIJACK: Category.PROMPT_INJECTION,
    Family.REFUSAL_SUPPRESSION: Category.JAILBREAK,
    Family.OBFUSCATION: Category.OBFUSCATION,
    Family.SAFETY_EVASION: Category.JAILBREAK,
    Family.PLANTED_DOCUMENT: Category.INDIRECT_INJECTION,
    Family.PLANTED_TOOL_OUTPUT: Category.INDIRECT_INJECTION,
}

MEANING_OF: Final[dict[Family, str]] = {
    Family.INSTRUCTION_OVERRIDE: "orders to drop or replace the assistant's instructions",
    Family.PROMPT_EXTRACTION: "attempts to read out the assistant's instructions",
    Family.PERSONA: "personas that are said to have no rules",
    Family.FICTION_FRAME: "stories and games that frame a forbidden request",
    Family.FALSE_AUTHORITY: "claims of authority over the assistant",
    Family.SECRET_GAME: "games that pry a kept secret out of the assistant",
    Family.AGENT_ABUSE: "orders that misuse an agent's tools",
    Family.FORGED_TURNS: "forged turns of a conversation or of the system",
    Family.TASK_HIJACK: "attempts to replace the assistant's task by another",
    Family.REFUSAL_SUPPRESSION: "rules that forbid the assistant to refuse",
    Family.OBFUSCATION: "requests that hide their wording",
    Family.SAFETY_EVASION: "pretexts that get round safety rules",
    Family.PLANTED_DOCUMENT: "instructions planted in a document, mail or page",
    Family.PLANTED_TOOL_OUTPUT: "instructions planted in a tool's output",
}
"""What a text of the family does, as the end of a sentence."""
