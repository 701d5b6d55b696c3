"""Small letters that keep every offset."""

from __future__ import annotations


def lowered(text: str) -> str:
    """Lower the case without changing any offset: a letter whose small form is longer stays as it is."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)
