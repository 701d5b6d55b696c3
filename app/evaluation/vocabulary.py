"""Writes the list of words that normalisation takes for language: `python -m app.evaluation.vocabulary`."""

from __future__ import annotations

import argparse
import codecs
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.detection.normalise import prepare
from app.detection.normalise.vocabulary import WORDS_FILE
from app.evaluation.recovery import DATA, read, sample

OFTEN: Final = 2
"""A word used once may be a name or a slip."""
SCRAMBLED: Final = 10
"""How many times more often the word occurs that another one is a disguise of."""
ODD: Final = 6
"""Words that share the rarest trigram of a word that is put together oddly."""
RARE: Final = 8
"""Most occurrences of a word that may be two words written together."""
ALPHABET: Final = "abcd"
"""What the alphabet begins with, which is no word however often it is spelled out."""
_WORD: Final = re.compile(r"[^\W\d_]{2,}")


def words(folder: Path = DATA) -> list[str]:
    """Return the words of data/detection that occur at least OFTEN times, most frequent first.

    The texts that recovery is measured on are left out, so that the figures are not those of words learned by heart.
    """
    measured = {row.text for row in sample(folder)}
    count: Counter[str] = Counter()
    for row in read(folder):
        if row.text not in measured:
            count.update(_WORD.findall(prepare(row.text).canonical))
    ordered = [word for word, times in sorted(count.items(), key=lambda item: (-item[1], item[0])) if times >= OFTEN]
    trigrams = Counter(trigram for word in ordered for trigram in _trigrams(word))
    return [
        word
        for word in ordered
        if not _is_scrambled(word, count, trigrams) and not _is_joined(word, count) and not word.startswith(ALPHABET)
    ]


def _trigrams(word: str) -> list[str]:
    return [f"^{word}$"[at : at + 3] for at in range(len(word))]


def _is_scrambled(word: str, count: Counter[str], trigrams: Counter[str]) -> bool:
    """Tell whether an odd word is a frequent one in rot13 or from its end: some texts are disguised already."""
    others = (codecs.encode(word, "rot13"), word[::-1])
    odd = min(trigrams[trigram] for trigram in _trigrams(word)) <= ODD
    return odd and any(count[other] > SCRAMBLED * count[word] for other in others)


def _is_joined(word: str, count: Counter[str]) -> bool:
    """Tell whether a rare word is two frequent ones written together."""
    return count[word] <= RARE and any(
        min(count[word[:cut]], count[word[cut:]]) > SCRAMBLED * count[word] for cut in range(2, len(word) - 1)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the list over the one that ships; it takes no arguments, and `--help` writes nothing."""
    argparse.ArgumentParser(prog="python -m app.evaluation.vocabulary", description=__doc__).parse_args(arguments)
    WORDS_FILE.write_text("\n".join(words()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
