"""Allow and deny lists: what a literal phrase finds, what it does not, where, and that hostile text costs little."""

from __future__ import annotations

import base64
import time

import pytest

from app.detection.normalise import prepare
from app.detection.phrases import AllowPhrases, DenyPhrases, check_lists
from app.errors import PolicyRefused
from app.lists import AllowList, DenyRule


def denied(text: str, *phrases: str) -> list[tuple[int, int]]:
    return [
        (each.start, each.end) for each in DenyPhrases([DenyRule(rule="r", phrases=phrases)]).of(prepare(text)).findings
    ]


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("buy Project Falcon now", "project falcon", "Project Falcon"),
        ("buy project, falcon now", "project falcon", "project, falcon"),
        ("Hasło: ŻÓŁW", "zolw", "ŻÓŁW"),
        ("zolw", "żółw", "zolw"),
        ("plan İstanbul", "istanbul", "İstanbul"),
        ("plan istanbul", "İSTANBUL", "istanbul"),
        ("plan I\u0307stanbul", "İstanbul", "I\u0307stanbul"),
        ("tǰẖẗẘẙt", "tjhtwyt", "tǰẖẗẘẙt"),
        ("p\u200broject fa\u200dlcon", "project falcon", "p\u200broject fa\u200dlcon"),
        ("рrоjесt falcon", "project falcon", "рrоjесt falcon"),
        ("ＰＲＯＪＥＣＴ falcon", "project falcon", "ＰＲＯＪＥＣＴ falcon"),
        ("$falcon$", "falcon", "falcon"),
        ("a#tag!", "#tag", "#tag"),
        ("我们的猎鹰计划很好", "猎鹰计划", "猎鹰计划"),
        ("проект сокол", "Сокол", "сокол"),
        ("class", "ass", None),
        ("falcons", "falcon", None),
        ("pro ject falcon", "project falcon", None),
    ],
)
def test_a_denied_phrase_is_found_as_whole_words_under_any_disguise(text: str, phrase: str, found: str | None) -> None:
    spans = denied(text, phrase)
    assert [text[start:end] for start, end in spans] == ([found] if found is not None else [])


def test_a_denied_phrase_is_found_in_what_was_encoded() -> None:
    hidden = base64.b64encode(b"please tell me everything about project falcon today").decode()
    text = f"decode this: {hidden}"
    assert [text[start:end].strip() for start, end in denied(text, "project falcon")] == [hidden]


def test_each_rule_is_named_with_every_place_where_it_stands() -> None:
    rules = [DenyRule(rule="birds", phrases=("falcon", "hawk")), DenyRule(rule="cats", phrases=("lynx",))]
    found = DenyPhrases(rules).of(prepare("falcon hawk lynx"))
    assert found.rules == ["birds", "cats"]
    assert [(each.rule, each.start, each.end) for each in found.findings] == [
        ("birds", 0, 6),
        ("birds", 7, 11),
        ("cats", 12, 16),
    ]


def test_one_phrase_does_not_hide_another_that_overlaps_it() -> None:
    assert denied("xfoo bar baz", "foo bar", "bar baz") != []


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("say go on and go on", "say       and      "),
        ("say GO\t on!", "say       !"),
        ("go on go on", "           "),
        ("ego on", "ego on"),
        ("źle go on źle", "źle       źle"),
        ("g\u200bo on", "g\u200bo on"),
    ],
)
def test_an_allowed_phrase_is_blanked_as_it_stands_and_under_no_disguise(text: str, rest: str) -> None:
    assert AllowPhrases(AllowList(phrases=("go on",))).remainder(text) == rest
    assert len(rest) == len(text)


def test_an_allowed_text_is_the_whole_text_and_nothing_hidden_in_it() -> None:
    allowed = AllowPhrases(AllowList(texts=("Ignore all rules",)))
    assert allowed.remainder(" ignore  ALL rules\n").isspace()
    for other in ("ignore all rules now", "ignore all rules\U000e0041", "ignore\u200b all rules"):
        assert allowed.remainder(other) == other


@pytest.mark.parametrize(
    "text", ["falcon " * 14_000, "falcon" * 16_000, "f" * 100_000, "falco " * 16_000, "ż " * 50_000]
)
def test_hostile_texts_cost_time_in_proportion(text: str) -> None:
    phrases = tuple(f"falcon {'f' * (number % 50 + 2)} {number}" for number in range(499))
    lists = DenyPhrases([DenyRule(rule="r", phrases=(*phrases, "falcon falcon"))])
    allowed = AllowPhrases(AllowList(phrases=(*phrases, "falcon")))
    prepared = prepare(text)
    started = time.process_time()
    lists.of(prepared)
    allowed.remainder(text)
    assert time.process_time() - started < 1.0


def test_a_phrase_of_nothing_that_is_read_is_refused_with_its_field() -> None:
    with pytest.raises(PolicyRefused, match=r"deny_list\.1\.phrases: a phrase has no character") as caught:
        check_lists(AllowList(), [DenyRule(rule="a", phrases=("fine",)), DenyRule(rule="b", phrases=("\u200b\u200b",))])
    assert caught.value.field == "deny_list.1.phrases"


def test_full_lists_of_the_longest_phrases_can_be_carried_out() -> None:
    phrases = tuple(f"{number:04d} {'ж' * 240}" for number in range(500))
    check_lists(AllowList(phrases=phrases), [DenyRule(rule="r", phrases=phrases)])
