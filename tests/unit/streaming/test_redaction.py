"""What a stream lets out: the same as in one piece, wherever the chunks were cut, and no part of a value before."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from app.pii.engine import PiiEngine
from app.pii.redaction import Placeholder, Redactor, Span
from app.redaction import REPLACE_ALL, RedactionTable
from app.streaming.redaction import FIRST_STEP, LOOK_AHEAD, Rules, StreamRedactor
from tests.unit.streaming.answers import ALLOWED_PART, answers, chunks, found_values, leaked_part, random_cuts

MIXED = (
    "Sure. The account of Anna Nowak is PL61 1090 1014 0000 0712 1981 2874, and her PESEL is 44051401359. Write to "
    "anna.nowak@example.com or call +48 601 234 567. The key is sk-proj-abcdefGHIJKL1234567890mnopQRSTuvwx."
)
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "\n".join("MIIEowIBAAKCAQEAabcdEFGH1234+/xyzabcdEFGH1234+/xyzQq" for _ in range(24))
    + "\n-----END RSA PRIVATE KEY-----"
)


class NoFinder:
    """Finds nothing, and counts how many characters it was given."""

    def __init__(self) -> None:
        self.read = 0

    def find(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        table: RedactionTable = REPLACE_ALL,
        *,
        patterns_only: bool = False,
    ) -> tuple[list[Span], str]:
        self.read += len(text)
        return [], "en"


def rules(engine: PiiEngine | None = None, **changes: object) -> Rules:
    entities = engine.entities if engine is not None else frozenset[str]()
    return Rules(**{"redactor": Redactor(), "entities": entities, **changes})  # type: ignore[arg-type]


def shown(redactor: StreamRedactor, pieces: Sequence[str]) -> str:
    return "".join([*map(redactor.feed, pieces), redactor.finish()])


@pytest.mark.parametrize("size", [1, 5, 64, 5_000])
@pytest.mark.parametrize("text", [MIXED, f"The key:\n{KEY}\nDo not share it with the others.", ""])
def test_a_stream_is_redacted_as_in_one_piece(engine: PiiEngine, text: str, size: int) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert shown(redactor, pieces) == engine.scan(text, None, []).redacted_text
    assert redactor.held == 0 or not text


def test_no_cut_makes_a_value_or_a_part_of_it_leak(engine: PiiEngine) -> None:
    rng = random.Random(3)  # noqa: S311 - cuts, not secrets
    for number, answer in enumerate(answers(40, seed=11)):
        values = found_values(answer, engine.scan(answer.text, None, []).redacted_text)
        assert values
        inside = [start + number % max(1, end - start) for start, end in answer.values]
        redactor = StreamRedactor(engine, rules(engine))
        out = shown(redactor, chunks(answer.text, [*random_cuts(answer.text, rng), *inside]))
        assert [value for value in values if leaked_part(value, out) > ALLOWED_PART] == []


def test_what_is_held_is_no_more_than_is_looked_ahead_in_plain_text(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    text = "the harbour opens at dawn and the boats go out with the tide while it is calm " * 5
    longest = 0
    for character in text:
        redactor.feed(character)
        longest = max(longest, redactor.held)
    assert longest <= LOOK_AHEAD + 2 * FIRST_STEP


def test_a_pause_lets_whole_sentences_out_and_keeps_a_value_that_may_go_on(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    assert redactor.feed("It is done. Write to anna@exam") == ""
    assert redactor.pause() == "It is done. "
    assert redactor.pause() == ""
    assert shown(redactor, ["ple.com"]) == "Write to <EMAIL_ADDRESS_1>"


def test_pauses_between_its_lines_show_nothing_of_a_private_key(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    lines = f"The key:\n{KEY}\nKeep it.".splitlines(keepends=True)
    assert "".join([*(redactor.feed(line) + redactor.pause() for line in lines), redactor.finish()]) == (
        "The key:\n<API_KEY_1>\nKeep it."
    )


@pytest.mark.parametrize("line", ["{}\n", "        {}\n", "> {}\n", "12: {}\n", '    "{}\\n" +\n'])
@pytest.mark.parametrize(("size", "pauses"), [(1, False), (17, True)])
def test_a_private_key_in_lines_of_another_text_is_held_until_it_ends(
    engine: PiiEngine, line: str, size: int, pauses: bool
) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    text = "The key:\n" + "".join(map(line.format, KEY.splitlines())) + "Keep it."
    shown_of_it = ""
    for piece in (text[at : at + size] for at in range(0, len(text), size)):
        shown_of_it += redactor.feed(piece) + (redactor.pause() if pauses else "")
    assert "MIIE" not in shown_of_it + redactor.finish()


def test_a_pause_within_the_end_mark_of_a_private_key_holds_its_short_last_line(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    *lines, end = KEY.splitlines()
    text = "".join(f"> {line}\n" for line in [*lines, "rjpY+a4+C/U=", end])
    assert redactor.feed(text[:-5]) + redactor.pause() == "> "
    assert "rjpY" not in redactor.feed(text[-5:]) + redactor.finish()


def test_a_pause_at_the_end_of_a_line_keeps_a_value_that_may_go_on(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine))
    assert redactor.feed("It is done.\nI met Anna\n") + redactor.pause() == "It is done.\n"


def test_a_pause_after_the_beginning_of_a_canary_holds_it() -> None:
    redactor = StreamRedactor(NoFinder(), rules(canaries=("the heron. Is blue",)))
    assert redactor.feed("He said. It is the heron. ") + redactor.pause() == "He said. "


def test_after_a_pause_no_more_is_held_than_is_looked_ahead() -> None:
    redactor = StreamRedactor(NoFinder(), rules())
    assert "".join(map(redactor.feed, ["x" * 10] * 200)) == ""
    assert redactor.feed(".\n") + redactor.pause() == "x" * 2_000 + ".\n"
    for _ in range(40):
        redactor.feed("word ")
        assert redactor.held <= LOOK_AHEAD + 2 * FIRST_STEP


def test_the_work_is_linear_in_the_text_however_long_one_word_is() -> None:
    finder = NoFinder()
    shown(StreamRedactor(finder, rules()), ["x" * 4_000, *(["y "] * 2_000)])
    words = finder.read
    finder = NoFinder()
    shown(StreamRedactor(finder, rules()), ["z"] * 4_000)
    assert finder.read < 60_000
    assert words < 2_000 * 600


def test_a_pause_in_a_long_row_of_dots_takes_no_time() -> None:
    redactor = StreamRedactor(NoFinder(), rules(hold_limit=16_384))
    assert redactor.feed("It is done... Chapter 1 " + "." * 8_000) == "It is done... Chapter 1 "
    began = time.thread_time()
    assert redactor.pause() == ""
    assert time.thread_time() - began < 0.2


def test_what_cannot_be_decided_within_the_limit_is_left_out() -> None:
    redactor = StreamRedactor(NoFinder(), rules(hold_limit=1_024))
    out = shown(redactor, ["See ", *["QUJD"] * 400, " for it. And so on, until the end of the text comes at last."])
    assert out == "See <WITHHELD_1> for it. And so on, until the end of the text comes at last."
    assert redactor.tally.withheld == 1


@pytest.mark.parametrize("length", range(950, 1_024, 6))
def test_of_a_value_behind_what_is_left_out_nothing_is_let_out(engine: PiiEngine, length: int) -> None:
    redactor = StreamRedactor(engine.for_parts(), rules(engine, hold_limit=1_024))
    after = " of Anna Nowak, who is not in today at all."
    out = shown(redactor, [*f"See {'QUJD' * 300:.{length}} and PL61 1090 1014 0000 0712 1981 2874{after}"])
    assert out.endswith("and <IBAN_CODE_1> of <PERSON_1>, who is not in today at all.")


def test_a_private_key_that_is_too_long_is_left_out_to_its_end(engine: PiiEngine) -> None:
    redactor = StreamRedactor(engine, rules(engine, hold_limit=1_024))
    text = f"The key:\n{KEY}\nKeep it."
    out = shown(redactor, [text[at : at + 7] for at in range(0, len(text), 7)])
    assert out == "The key:\n<WITHHELD_1>\nKeep it."


def test_a_canary_is_waited_for_though_it_has_spaces() -> None:
    canary = "the blue heron " * 8
    redactor = StreamRedactor(NoFinder(), rules(canaries=(canary,)))
    assert "heron" not in "".join(map(redactor.feed, "He said: " + canary[:-2]))
    assert redactor.finish().startswith("the blue heron")


@pytest.mark.parametrize("canary", ["The BLUE heron " * 8, "Straße der Reiher " * 8])
@pytest.mark.parametrize("before", ["Er wohnt in der Wiesenstraße 7, ", "ﬁre, İzmir, ß ß ß ß: ", "He said: "])
def test_a_canary_is_waited_for_where_folding_changes_lengths(before: str, canary: str) -> None:
    redactor = StreamRedactor(NoFinder(), rules(canaries=(canary,)))
    assert "".join(map(redactor.feed, before + canary[:-2])) == before


def test_placeholders_of_the_prompt_are_filled_and_their_numbers_not_given_again(engine: PiiEngine) -> None:
    known = (Placeholder("PERSON", 1, ("Jan Wójcik",)), Placeholder("EMAIL_ADDRESS", 1, ("jan@example.org",)))
    redactor = StreamRedactor(engine, rules(engine, known=known))
    text = "Dear <PERSON_1>, I wrote to **[EMAIL_ADDRESS_1]** and to anna@example.com. <PERSON_2> is new."
    out = shown(redactor, list(text))
    assert out == "Dear Jan Wójcik, I wrote to **jan@example.org** and to <EMAIL_ADDRESS_2>. <PERSON_2> is new."
    assert redactor.tally.restored == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use postgres://admin:s3cr3tPw9@db.example.com/PERSON_1 now.", "Use <API_KEY_1>/Jan Wójcik now."),
        ("Mail ann.PERSON_1@example.com now.", "Mail <EMAIL_ADDRESS_1>.Jan Wójcik@<EMAIL_ADDRESS_2> now."),
    ],
)
def test_of_a_value_around_a_placeholder_of_the_prompt_nothing_is_let_out(
    engine: PiiEngine, text: str, expected: str
) -> None:
    known = (Placeholder("PERSON", 1, ("Jan Wójcik",)),)
    assert shown(StreamRedactor(engine, rules(engine, known=known)), [text]) == expected


def test_without_a_redactor_only_placeholders_are_filled(engine: PiiEngine) -> None:
    known = (Placeholder("PERSON", 1, ("Jan Wójcik",)),)
    redactor = StreamRedactor(NoFinder(), rules(engine, redactor=None, known=known))
    assert shown(redactor, ["<PER", "SON_1> has anna@example.com"]) == "Jan Wójcik has anna@example.com"


def test_the_policys_table_is_carried_out(engine: PiiEngine) -> None:
    table = RedactionTable.model_validate(
        {"default": "remove", "entities": {"EMAIL_ADDRESS": "keep", "CREDIT_CARD": {"action": "mask", "keep_last": 4}}}
    )
    redactor = StreamRedactor(engine, rules(engine, redactor=Redactor(table)))
    out = shown(redactor, list("Mail anna@example.com, card 4111 1111 1111 1111, PESEL 44051401359."))
    assert out == "Mail anna@example.com, card **** **** **** 1111, PESEL ."
    assert redactor.tally.redacted == 2
