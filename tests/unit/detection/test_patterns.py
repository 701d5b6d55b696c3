"""Shows that every shipped rule does what its examples say, and that a bad pattern file is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.contracts import Source
from app.detection.heuristics import Heuristics
from app.detection.normalise import prepare
from app.detection.patterns import Rule, load_patterns
from app.errors import ConfigurationError

FOLDER = Path(__file__).parents[3] / "config" / "patterns"
PATTERNS = load_patterns(FOLDER)
HEURISTICS = Heuristics(PATTERNS)

GOOD_RULE = """
rules:
  - id: test.rule
    category: jailbreak
    pattern: |-
      {{greeting}} (?:\\w+ ){0,2}
      world
    score: 60
    explanation: The text greets the world.
    fires_on: [hello world]
    silent_on: [hello moon]
vocabulary:
  greeting: hello|good morning
"""


def examples(kind: str) -> list[tuple[Rule, str]]:
    return [(rule, example) for rule in PATTERNS.rules for example in getattr(rule, kind)]


def fired(rule: Rule, text: str) -> bool:
    source = Source.INPUT if Source.INPUT in rule.sources else min(rule.sources)
    return rule.id in HEURISTICS.judge(prepare(text), source).result.signals


@pytest.mark.parametrize(("rule", "text"), examples("fires_on"), ids=lambda value: getattr(value, "id", None))
def test_a_rule_fires_on_its_examples(rule: Rule, text: str) -> None:
    assert fired(rule, text)


@pytest.mark.parametrize(("rule", "text"), examples("silent_on"), ids=lambda value: getattr(value, "id", None))
def test_a_rule_is_silent_on_its_near_misses(rule: Rule, text: str) -> None:
    assert not fired(rule, text)


def test_dampers_match_their_examples_and_only_them() -> None:
    for damper, regex in PATTERNS.dampers:
        for text in damper.fires_on:
            assert regex.search(prepare(text).folded.encode()), text
        for text in damper.silent_on:
            assert not regex.search(prepare(text).folded.encode()), text


def test_explanations_are_sentences_that_name_no_example() -> None:
    for rule in PATTERNS.rules:
        assert rule.explanation.endswith("."), rule.id
        assert not any(example.casefold() in rule.explanation.casefold() for example in rule.fires_on), rule.id


def load(tmp_path: Path, *contents: str) -> Heuristics:
    for number, content in enumerate(contents):
        (tmp_path / f"file{number}.yaml").write_text(content, encoding="utf-8")
    return Heuristics(load_patterns(tmp_path))


@pytest.mark.parametrize("text", ["hello world", "Good morning, dear old world!", 'hello "world"'])
def test_terms_gaps_and_line_breaks_are_expanded(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, GOOD_RULE).judge(prepare(text), Source.INPUT).result.score == 60


def test_keywords_match_whole_words_only(tmp_path: Path) -> None:
    pattern, rest = GOOD_RULE.index("    pattern:"), GOOD_RULE.index("    score:")
    keywords = f"{GOOD_RULE[:pattern]}    keywords: [open sesame]\n{GOOD_RULE[rest:]}"
    heuristics = load(tmp_path, keywords)
    assert heuristics.judge(prepare("Open, Sesame!"), Source.INPUT).result.score == 60
    assert heuristics.judge(prepare("reopen sesame seeds"), Source.INPUT).result.score == 0
    assert heuristics.judge(prepare("open sesameseed"), Source.INPUT).result.score == 0


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("score: 60", "score: 101", "test.rule.score"),
        ("score: 60", "score: 60\n    colour: red", "test.rule.colour"),
        ("category: jailbreak", "category: rudeness", "test.rule.category"),
        ("fires_on: [hello world]", "fires_on: []", "test.rule.fires_on"),
        ("score: 60", "score: 60\n    signal: zero_width", "test.rule: give exactly one"),
        ("{{greeting}}", "{{farewell}}", "test.rule: unknown term farewell"),
        ("{0,2}", "{0,2}(", "test.rule: missing"),
        ("(?:\\w+ )", "(?=\\w+ )", "test.rule: invalid perl operator"),
        ("rules:", "rules: [", "cannot be read as YAML"),
        ("id: test.rule", "id: Test Rule", "rule Test Rule.id"),
    ],
)
def test_a_bad_file_is_refused_and_the_rule_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in GOOD_RULE
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, GOOD_RULE.replace(old, new))
    assert "file0.yaml" in error.value.message
    assert named in error.value.message


def test_an_id_is_used_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"file1\.yaml: rule test\.rule is already defined in file0\.yaml"):
        load(tmp_path, GOOD_RULE, GOOD_RULE)


def test_a_folder_without_patterns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no pattern files"):
        load_patterns(tmp_path)
