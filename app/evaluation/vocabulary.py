"""Makes the list of words that normalisation takes for language: `python -m app.evaluation.vocabulary`."""

from __future__ import annotations

import argparse
import codecs
import re
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from app.detection.normalise import prepare
from app.detection.normalise.vocabulary import WORDS_FILE
from app.evaluation.recovery import DATA, read, sample

FILES: Final = frozenset(
    {
        "context_and_question.jsonl",
        "contrast_pairs.jsonl",
        "contrast_pairs_2.jsonl",
        "contrast_pairs_3.jsonl",
        "direct_attacks.jsonl",
        "dressed_up_benign.jsonl",
        "everyday_benign.jsonl",
        "everyday_long.jsonl",
        "game_attacks.jsonl",
        "hard_benign_requests.jsonl",
        "hard_benign_words.jsonl",
        "jailbreak_mid.jsonl",
        "long_documents.jsonl",
        "long_documents_2.jsonl",
        "long_prompts.jsonl",
        "long_prompts_2.jsonl",
        "multilingual.jsonl",
        "multilingual_2.jsonl",
        "quiet_attacks.jsonl",
        "quiet_attacks_2.jsonl",
        "tool_outputs.jsonl",
        "tool_outputs_2.jsonl",
    }
)
"""The files of data/detection that the shipped list is made of: what stood there when the thresholds of normalisation
were set by it. Another list needs other thresholds."""
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


def words(folder: Path = DATA, files: Collection[str] | None = FILES) -> list[str]:
    """Return the words of these files of a folder, of all for None, that occur at least OFTEN times, most frequent
    first.

    The texts that recovery is measured on are left out, so that the figures are not those of words learned by heart:
    also those of the sample of all files, whose texts are in the sample of each file that has them.

    Raises:
        OSError: a file cannot be read.
    """
    measured = {row.text for row in sample(folder, files)}
    count: Counter[str] = Counter()
    for row in read(folder, files):
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
    """Make the list and compare it with the one that ships, or write it to a file that is named."""
    parser = argparse.ArgumentParser(prog="python -m app.evaluation.vocabulary", description=__doc__)
    parser.add_argument("--all", action="store_true", help="of all files of data/detection, not the shipped list's")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the list, one word a line")
    chosen = parser.parse_args(arguments)
    made = words(files=None if chosen.all else FILES)
    shipped = set(WORDS_FILE.read_text(encoding="utf-8").split())
    if chosen.output is not None:
        chosen.output.write_text("\n".join(made) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{len(made)} words; of the {len(shipped)} that ship {len(shipped.intersection(made))} are among them.\n"
    )


if __name__ == "__main__":
    main()
