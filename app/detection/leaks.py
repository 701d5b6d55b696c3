"""Finds what the caller keeps secret in a text: planted canaries, and passages of its system prompt.

Method for prompts: word shingles (Broder, 1997), here runs of five words, so case, punctuation and white space do not
matter. A few words that any answer may share with a prompt are not enough; which passages are, says `gives_away`.
"""

from __future__ import annotations

import base64
import codecs
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Final, Self

from app.contracts import BranchName, BranchResult, Category, DetectionReport, Finding, Source
from app.detection.normalise import PreparedText, prepare
from app.detection.normalise.vocabulary import language_share

CANARY_RULE: Final = "leak.canary"
PROMPT_RULE: Final = "leak.system_prompt"
EXPLANATIONS: Final = {
    CANARY_RULE: "The text holds a canary: a secret token that only the system prompt knows.",
    PROMPT_RULE: "The answer repeats passages of the system prompt.",
}
EXPLANATIONS_OF_PARTS: Final = {
    CANARY_RULE: "The text holds a part of a canary, a secret token, and other messages of the chat hold the rest.",
    PROMPT_RULE: "The answer repeats passages of the system prompt, together with other messages of the chat.",
}
CANARY_SOURCES: Final = frozenset({Source.OUTPUT, Source.TOOL})
"""Where a canary gives something away; a user who types one has it from elsewhere."""
CONFIDENCE: Final = 0.99
SHINGLE_WORDS: Final = 5
INSTRUCTION_WORDS: Final = 12
"""Words of sentences that instruct the assistant from which their repetition is a leak: no answer needs them."""
PASSAGE_WORDS: Final = 20
"""Words in a row, over the end of a sentence, from which any passage is a leak."""
SCATTERED_WORDS: Final = 40
"""Words in all from which any repetition is a leak; an answer may quote a fact or two out of the prompt."""
WHOLE_SHARE: Final = 0.6
"""Share of a short prompt from which its repetition is a leak."""
FEWEST_WORDS: Final = 6
"""A prompt of fewer words says nothing that could be recognised."""
LONGEST_FORM: Final = 9
"""Characters that a byte of a canary takes in the longest form that is looked for: eight bits and a blank."""
SHORTEST_SQUEEZED: Final = 8
"""Letters and digits that a canary must have to be looked for without what stands between them."""
SHORTEST_PIECE: Final = 6
"""Letters and digits of a canary that must stand in a row where it is told in pieces; its last piece may have fewer."""
MOST_PIECES: Final = 8
FEWEST_TO_PART: Final = 2 * SHORTEST_PIECE
"""Letters and digits that a canary must have to be looked for in pieces."""
DIGITS_OF_NO_WORD: Final = 3
"""Digits from which a piece is not taken for words that any text may hold."""
_BETWEEN_TEXTS: Final = "\n\n"

_WORD: Final = re.compile(r"[^\W_]+")
_WHITE: Final = re.compile(r"\s+")
_BETWEEN: Final = re.compile(r"[\W_]+")
_SENTENCE_END: Final = re.compile(r"[.!?:;\n]")
_INSTRUCTION: Final = re.compile(
    r"\b(?:you(?:'re| are| must| should| may| can| will| have)|your|never|always|do not|don't|must|only answer|"
    r"refuse|decline|pretend|reveal|mention|disclose|confidential|secret|internal|assistant|"
    r"jestes|twoj\w*|nigdy|zawsze|nie (?:wolno|ujawniaj|podawaj|mow|wspominaj|zdradzaj)|odpowiadaj|odmawiaj|"
    r"poufn\w*|tajn\w*|asystent\w*)\b"
)


@dataclass(frozen=True)
class Secrets:
    """What must not be given away; its representation does not show it."""

    canaries: tuple[str, ...] = ()
    system_prompt: str | None = None

    @cached_property
    def prompt(self) -> Prompt | None:
        """The system prompt, made ready once for all texts that are compared with it."""
        return Prompt(self.system_prompt) if self.system_prompt else None

    @cached_property
    def sought(self) -> tuple[_Canary, ...]:
        """The canaries, each once, in all forms in which they are looked for."""
        return tuple(map(_Canary.of, dict.fromkeys(self.canaries)))

    def __repr__(self) -> str:
        return f"Secrets({len(self.canaries)} canaries)"

    def __bool__(self) -> bool:
        return bool(self.canaries or self.system_prompt)


@dataclass(frozen=True, slots=True)
class Leak:
    """One passage that gives something away."""

    rule: str
    """CANARY_RULE or PROMPT_RULE."""
    start: int
    """First code point of the original."""
    end: int
    """One past the last code point of the original."""
    is_part: bool = False
    """Whether only other texts beside it make it one."""


def find_leaks(text: str, source: Source, secrets: Secrets) -> list[Leak]:
    """Return what the text gives away, at most one leak for each canary and one for the prompt.

    Canaries are looked for in outputs and tool outputs, plain, under every reading that normalisation makes, without
    what stands between their letters, from their end, in base64 (also inside a longer text), base32 and rot13, and as
    hexadecimal, binary or decimal numbers, percent signs, entities and escapes.
    The prompt is looked for in outputs only.
    """
    found = _find(text, source, secrets)
    return [Leak(rule, min(start for start, _ in spans), max(end for _, end in spans)) for rule, spans in found]


def find_leaks_together(texts: Sequence[str], secrets: Secrets) -> list[tuple[int, Leak]]:
    """Return what several outputs of one conversation give away together: the number of each text that holds a part,
    and where in it that stands, at most one leak for each text and rule."""
    starts = list(accumulate((len(text) + len(_BETWEEN_TEXTS) for text in texts), initial=0))
    parts: dict[tuple[int, str], Leak] = {}
    for rule, spans in _find(_BETWEEN_TEXTS.join(texts), Source.OUTPUT, secrets):
        for start, end in spans:
            first, last = bisect_right(starts, start) - 1, bisect_left(starts, end)
            for number in range(max(first, 0), min(last, len(texts))):
                begin, stop = max(start - starts[number], 0), min(end - starts[number], len(texts[number]))
                if begin < stop:
                    known = parts.get((number, rule), Leak(rule, begin, stop))
                    parts[number, rule] = Leak(rule, min(known.start, begin), max(known.end, stop), is_part=True)
    return [(number, leak) for (number, _), leak in sorted(parts.items(), key=lambda entry: entry[0][0])]


def _find(text: str, source: Source, secrets: Secrets) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return rule and places, in code points of the text, of each canary that it gives away, and of the prompt."""
    if source not in CANARY_SOURCES or not secrets:
        return []
    prepared = prepare(text)
    leaks: list[tuple[str, list[tuple[int, int]]]] = []
    if secrets.canaries:
        views = _Views(prepared)
        leaks += [(CANARY_RULE, spans) for spans in map(views.spans_of, secrets.sought) if spans]
    if source is Source.OUTPUT and secrets.prompt is not None and (spans := _prompt_spans(prepared, secrets.prompt)):
        leaks.append((PROMPT_RULE, spans))
    return leaks


class LeakWatch:
    """Looks for secrets in an answer that comes in pieces, by the rules of `find_leaks`.

    What it keeps of the answer are runs of words that the prompt has too.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._canaries = secrets.sought
        self._prompt = secrets.prompt
        self._repeated: dict[str, None] = {}

    def read(self, prepared: PreparedText) -> str | None:
        """Return the rule of what this part of the answer, together with all before it, gives away; None for nothing.

        Args:
            prepared: a part that overlaps the one before it by LONGEST_FORM times as much as any canary has bytes.
        """
        if self._canaries:
            views = _Views(prepared)
            if any(map(views.spans_of, self._canaries)):
                return CANARY_RULE
        if self._prompt is not None:
            known = len(self._repeated)
            for folded in (prepared.folded, *(layer.folded for layer in prepared.layers)):
                self._repeated.update(dict.fromkeys(run for _, run in _repeated(_WORD.findall(folded), self._prompt)))
            if len(self._repeated) > known and self._prompt.gives_away(list(self._repeated)):
                return PROMPT_RULE
        return None


def with_leaks(report: DetectionReport, leaks: Sequence[Leak]) -> DetectionReport:
    """Return the report as the heuristics branch makes it of a text with these leaks: certain, and leaks first."""
    if not leaks:
        return report
    before = report.branches.get(BranchName.HEURISTICS, BranchResult(score=0, confidence=0))
    rules = list(dict.fromkeys(leak.rule for leak in leaks))
    result = BranchResult(
        score=100,
        confidence=CONFIDENCE,
        signals=[*rules, *before.signals],
        explanations=[*dict.fromkeys(map(_explanation, leaks)), *before.explanations],
        latency_ms=before.latency_ms,
    )
    findings = [
        Finding(detector=str(BranchName.HEURISTICS), rule=leak.rule, start=leak.start, end=leak.end, score=100)
        for leak in leaks
    ]
    others = [category for category in report.categories if category is not Category.SYSTEM_PROMPT_LEAK]
    return report.model_copy(
        update={
            "branches": report.branches | {BranchName.HEURISTICS: result},
            "categories": [Category.SYSTEM_PROMPT_LEAK, *others],
            "findings": findings + report.findings,
            "leaked": True,
        }
    )


def _explanation(leak: Leak) -> str:
    return (EXPLANATIONS_OF_PARTS if leak.is_part else EXPLANATIONS)[leak.rule]


# --- Canaries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Canary:
    """A canary in all forms in which it is looked for; its representation does not show it."""

    text: str
    plain: str
    """In canonical form."""
    letters: str
    """Without what stands between its letters and digits; empty where these are too few."""
    squeezed_forms: tuple[str, ...]
    """Of nothing but letters and digits."""
    base64_forms: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        plain = prepare(text).canonical
        letters = _BETWEEN.sub("", plain)
        forms = tuple(_number_forms(text))
        if len(letters) < SHORTEST_SQUEEZED:
            return cls(text, plain, "", forms, tuple(_base64_forms(text)))
        forms = (letters, letters[::-1], codecs.encode(letters, "rot13"), *forms)
        return cls(text, plain, letters, forms, tuple(_base64_forms(text)))


class _Views:
    """A text in the forms in which a canary may stand in it; each is made when it is first needed."""

    def __init__(self, prepared: PreparedText) -> None:
        self._prepared = prepared

    def spans_of(self, canary: _Canary) -> list[tuple[int, int]]:
        """Return where the canary stands, in code points of the original; several places where it is told in pieces,
        and none where it does not stand in the text."""
        span = self._span_of(canary)
        return [span] if span is not None else self._pieces(canary)

    def _span_of(self, canary: _Canary) -> tuple[int, int] | None:
        prepared = self._prepared
        place = prepared.original.find(canary.text)
        if place >= 0:
            return place, place + len(canary.text)
        place = prepared.canonical.find(canary.plain) if canary.plain else -1
        if place >= 0:
            return prepared.original_span(place, place + len(canary.plain))
        for form in canary.squeezed_forms:
            place = self._squeezed.find(form)
            if place >= 0:
                return self._original_of(_BETWEEN, prepared.canonical, place, len(form))
        for form in canary.base64_forms:
            place = self._compact.find(form)
            if place >= 0:
                return self._original_of(_WHITE, prepared.original, place, len(form))
        for layer, squeezed in zip(prepared.layers, self._squeezed_layers, strict=True):
            if (canary.plain and canary.plain in layer.text) or (canary.letters and canary.letters in squeezed):
                return layer.start, layer.end
        return None

    def _pieces(self, canary: _Canary) -> list[tuple[int, int]]:
        """Return the places of pieces that make up the canary, each the longest that goes on from the one before, in
        any order and with anything between them. Pieces that may be words count for nothing."""
        letters, squeezed = canary.letters, self._squeezed
        if len(letters) < FEWEST_TO_PART:
            return []
        found: list[tuple[int, int]] = []
        done, least = 0, max(SHORTEST_PIECE, len(letters) // MOST_PIECES)
        while done < len(letters):
            shortest = min(least, len(letters) - done)
            if (place := squeezed.find(letters[done : done + shortest])) < 0:
                return []
            length, too_long = shortest, len(letters) - done + 1
            while too_long - length > 1:
                middle = (length + too_long) // 2
                at = squeezed.find(letters[done : done + middle])
                length, too_long, place = (middle, too_long, at) if at >= 0 else (length, middle, place)
            if _may_be_words(letters[done : done + length]):
                return []
            found.append((place, length))
            done += length
        return [self._original_of(_BETWEEN, self._prepared.canonical, *piece) for piece in found]

    @cached_property
    def _squeezed_layers(self) -> list[str]:
        return [_BETWEEN.sub("", layer.text) for layer in self._prepared.layers]

    @cached_property
    def _squeezed(self) -> str:
        return _BETWEEN.sub("", self._prepared.canonical)

    @cached_property
    def _compact(self) -> str:
        return _WHITE.sub("", self._prepared.original).replace("-", "+").replace("_", "/")

    def _original_of(self, left_out: re.Pattern[str], text: str, place: int, length: int) -> tuple[int, int]:
        """Return the original's code points of a match in a text from which something was left out."""
        kept = [index for index, character in enumerate(text) if not left_out.match(character)]
        start, end = kept[place], kept[place + length - 1] + 1
        return (start, end) if text is self._prepared.original else self._prepared.original_span(start, end)


def _may_be_words(piece: str) -> bool:
    return sum(map(str.isdigit, piece)) < DIGITS_OF_NO_WORD and language_share(piece) > 0.5


def _number_forms(canary: str) -> Iterator[str]:
    """Yield the letters and digits that other encodings make of the canary's bytes. A canary need not be words, so
    normalisation may not take what they decode to for a text."""
    encoded = canary.encode()
    yield encoded.hex()  # Percent signs too.
    for form in ("{}", "x{:02x}", "0x{:02x}", "u{:04x}", "u{:02x}", "{:08b}", "{:07b}"):
        yield "".join(map(form.format, encoded))
    yield base64.b32encode(encoded).decode().lower()[: 8 * len(encoded) // 5]


def _base64_forms(canary: str) -> Iterator[str]:
    """Yield the signs that base64 makes of the canary alone, at each of its three places in a longer text."""
    encoded = canary.encode()
    for before in range(3):
        signs = base64.b64encode(b"\0" * before + encoded).decode()
        yield signs[-(-8 * before // 6) : 8 * (before + len(encoded)) // 6]


# --- System prompts -------------------------------------------------------------------------------------------------


class Prompt:
    """A system prompt, ready to be recognised in other texts."""

    def __init__(self, text: str) -> None:
        folded = prepare(text).folded
        matches = list(_WORD.finditer(folded))
        self.words = [match[0] for match in matches]
        ends = [match.start() for match in _SENTENCE_END.finditer(folded)]
        self.sentence_of: list[int] = []
        """For each word, the number of its sentence."""
        sentence = 0
        for match in matches:
            while sentence < len(ends) and ends[sentence] < match.start():
                sentence += 1
            self.sentence_of.append(sentence)
        bounds = [0, *ends, len(folded)]
        self.instructions = frozenset(
            number
            for number in range(len(ends) + 1)
            if _INSTRUCTION.search(folded[bounds[number] : bounds[number + 1]])
        )
        self.places: dict[str, list[int]] = {}
        """Where each shingle begins."""
        for place, shingle in enumerate(shingles(self.words)):
            self.places.setdefault(shingle, []).append(place)

    def gives_away(self, repeated: Sequence[str]) -> bool:
        """Tell whether a text with these of the prompt's shingles gives the prompt away.

        So it does with WHOLE_SHARE of its words, INSTRUCTION_WORDS of the sentences that instruct the assistant,
        PASSAGE_WORDS in a row over the end of a sentence, or SCATTERED_WORDS in all.
        """
        if len(self.words) < FEWEST_WORDS:
            return False
        starts = chain.from_iterable(self.places[shingle] for shingle in set(repeated))
        covered = sorted({place + ahead for place in starts for ahead in range(SHINGLE_WORDS)})
        if len(covered) >= min(SCATTERED_WORDS, max(FEWEST_WORDS, WHOLE_SHARE * len(self.words))):
            return True
        if sum(self.sentence_of[place] in self.instructions for place in covered) >= INSTRUCTION_WORDS:
            return True
        return any(
            end - start >= PASSAGE_WORDS and self.sentence_of[start] != self.sentence_of[end - 1]
            for start, end in _rows(covered)
        )


def shingles(words: Sequence[str]) -> Iterator[str]:
    """Yield every run of SHINGLE_WORDS words."""
    ahead: list[Sequence[str]] = [words[start:] for start in range(SHINGLE_WORDS)]
    return map(" ".join, zip(*ahead, strict=False))


def _rows(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of numbers that follow each other: first number, and one past the last."""
    start = end = -1
    for place in places:
        if place != end:
            if start >= 0:
                yield start, end
            start = place
        end = place + 1
    if start >= 0:
        yield start, end


def _prompt_spans(prepared: PreparedText, prompt: Prompt) -> list[tuple[int, int]]:
    """Return the parts of the text that give the prompt away, in code points of the original: those of the text itself,
    the first layer that does so alone, or else all that repeat it together; none where nothing does."""
    matches = list(_WORD.finditer(prepared.folded))
    parts: list[tuple[list[tuple[int, int]], list[str]]] = []
    repeated = _repeated([match[0] for match in matches], prompt)
    if repeated:
        words = sorted({place + ahead for place, _ in repeated for ahead in range(SHINGLE_WORDS)})
        spans = [prepared.original_span(matches[first].start(), matches[end - 1].end()) for first, end in _rows(words)]
        parts.append((spans, [shingle for _, shingle in repeated]))
    for layer in prepared.layers:
        repeated = _repeated(_WORD.findall(layer.folded), prompt)
        if repeated:
            parts.append(([(layer.start, layer.end)], [shingle for _, shingle in repeated]))
    for spans, runs in parts:
        if prompt.gives_away(runs):
            return spans
    if len(parts) > 1 and prompt.gives_away([run for _, runs in parts for run in runs]):
        return [span for spans, _ in parts for span in spans]
    return []


def _repeated(words: Sequence[str], prompt: Prompt) -> list[tuple[int, str]]:
    return [(place, shingle) for place, shingle in enumerate(shingles(words)) if shingle in prompt.places]
