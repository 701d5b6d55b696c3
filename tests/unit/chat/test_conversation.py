"""A chat through the real workers of all stages: judged by role, redacted as one, decided by its worst message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.arbiter.book import PolicyBook, load_policies
from app.arbiter.live import LivePolicies
from app.arbiter.worker import ArbiterWorker
from app.contracts import (
    ALL_BRANCHES,
    DEFAULT_TENANT,
    MAX_LISTED_SPANS,
    BranchName,
    BranchResult,
    Category,
    DecisionRecord,
    DetectionReport,
    Envelope,
    Finding,
    GuardAnswer,
    GuardRequest,
    Mode,
    ScanJob,
    Source,
    Verdict,
)
from app.detection import leaks
from app.detection.chat_worker import ChatWorker
from app.detection.leak_worker import LeakWorker
from app.detection.leaks import Prompt
from app.detection.recent import RecentReports
from app.detection.worker import DetectionWorker
from app.events.texts import full_text
from app.identity import now
from app.lists import DenyRule
from app.log_contracts import TextRecord
from app.messaging import chats
from app.pii.engine import PiiEngine
from app.pii.restoration import restore
from app.pii.sealing import MapSealer
from app.pii.worker import PiiWorker, Redactors
from app.redaction import RedactionTable
from app.settings import default_config_dir
from app.validation import parse

ENVELOPE = Envelope(request_id=UUID(int=7), received_at=now())
SEALER = MapSealer((b"kappa-omega-secret-of-32-characters",), timedelta(hours=1))
CANARY = "kappa-omega-7319"
PROMPT = "You are a clerk. Never mention the delays at the depot, and never say who told you about them."


@dataclass
class WordJudge:
    """Takes every text with the word ATTACK for one, and notes what it is asked."""

    asked: list[tuple[str, Source]] = field(default_factory=list)

    model_version = "test"

    def inspect(
        self, text: str, source: Source, mode: Mode = Mode.FULL, branches: frozenset[BranchName] = ALL_BRANCHES
    ) -> DetectionReport:
        self.asked.append((text, source))
        place = text.replace("\n", " ").find("ATTACK")
        score = 100 if place >= 0 else 2
        return DetectionReport(
            branches={name: BranchResult(score=score, confidence=0.9) for name in BranchName},
            categories=[Category.PROMPT_INJECTION] if place >= 0 else [],
            findings=[Finding(detector="heuristics", rule="word", start=place, end=place + 6, score=100)]
            if place >= 0
            else [],
            model_version="test",
        )


@dataclass
class Chain:
    judge: WordJudge
    engine: PiiEngine
    threads: ThreadPoolExecutor
    redaction: RedactionTable = field(default_factory=RedactionTable)
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the policy."""
    full_text: TextRecord | None = None
    """What may be stored of the last chat's text itself."""

    def __post_init__(self) -> None:
        self.reports = RecentReports(self.judge)

    async def record(self, *messages: dict[str, Any], **fields: Any) -> DecisionRecord:
        asked = parse(GuardRequest, json.dumps({"messages": messages, **fields}).encode(), text_limit=100_000)
        lean = parse(
            GuardRequest, chats.lean(asked, 200).model_dump_json(exclude_unset=True).encode(), text_limit=100_000
        )
        detection = LeakWorker(DetectionWorker(self.reports, self.threads, 2000, b""), self.threads, 2000, (CANARY,))
        files = load_policies(default_config_dir(), "balanced")
        balanced = files.get().model_copy(update={"redaction": self.redaction, **self.changes})
        policies = LivePolicies(PolicyBook({**files.policies, "balanced": balanced}, "balanced"))
        worker = ChatWorker(policies.pin, detection, detection, b"", "test", leaks_together=detection.together)
        job = await worker(lean, ENVELOPE)
        self.full_text = full_text(lean, job, ENVELOPE)
        if isinstance(job, ScanJob):
            job = ScanJob.model_validate_json(job.model_dump_json())
            job = await PiiWorker(self.engine, self.threads, Redactors(b""), SEALER, policies.scanning)(job, ENVELOPE)
        job = type(job).model_validate_json(job.model_dump_json())
        return await ArbiterWorker(policies)(job, ENVELOPE)

    async def answer(self, *messages: dict[str, Any], **fields: Any) -> GuardAnswer:
        record = await self.record(*messages, **fields)
        asked = parse(GuardRequest, json.dumps({"messages": messages, **fields}).encode(), text_limit=100_000)
        assert asked.messages is not None
        return GuardAnswer.model_validate_json(
            chats.completed(record.answer.model_dump_json().encode(), asked.messages)
        )


@pytest.fixture(scope="module")
def engine() -> PiiEngine:
    return PiiEngine.load()


@pytest.fixture
def chain(engine: PiiEngine) -> Iterator[Chain]:
    with ThreadPoolExecutor(1) as threads:
        yield Chain(WordJudge(), engine, threads)


def says(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def decisions(answer: GuardAnswer) -> list[str]:
    assert answer.messages is not None
    return [str(message.decision) for message in answer.messages]


async def test_each_message_is_judged_by_its_role_and_the_system_is_not(chain: Chain) -> None:
    answer = await chain.answer(
        says("system", "ATTACK is what you must refuse."), says("user", "a"), says("assistant", "b"), says("tool", "c")
    )
    assert chain.judge.asked == [("a", Source.INPUT), ("b", Source.OUTPUT), ("c", Source.TOOL)]
    assert answer.messages is not None
    assert [message.judged for message in answer.messages] == [False, True, True, True]
    assert answer.decision is Verdict.ALLOWED
    assert answer.source is Source.TOOL
    assert answer.branches[BranchName.HEURISTICS].score == 2


async def test_the_whole_is_what_its_worst_message_is(chain: Chain) -> None:
    answer = await chain.answer(
        says("user", "Write to anna@example.com", name="x"), says("tool", "An ATTACK here."), says("user", "Thanks")
    )
    assert answer.decision is Verdict.BLOCKED
    assert decisions(answer) == ["SANITIZED", "BLOCKED", "ALLOWED"]
    assert answer.score >= 50
    assert answer.explanations[0].startswith("Message 1 (tool): ")
    assert answer.sanitized_messages is None
    assert answer.restore_map is None
    assert answer.messages is not None
    assert all(message.sanitized_content is None for message in answer.messages)
    (finding,) = answer.messages[1].findings
    assert (finding.start, finding.end) == (3, 9)
    whole = "Write to anna@example.com\n\nAn ATTACK here.\n\nThanks"
    places = {each.rule: whole[each.start : each.end] for each in answer.findings}
    assert places == {"EMAIL_ADDRESS": "anna@example.com", "word": "ATTACK"}


async def test_a_value_has_one_placeholder_in_the_whole_chat_and_the_shape_stays(chain: Chain) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    messages = [
        says("system", "Help."),
        says("user", [{"type": "text", "text": "I am Anna Nowak."}, picture, {"type": "text", "text": "Hi!"}]),
        says("assistant", "Hello Anna Nowak, is it still anna@example.com?", name="bot"),
        says("user", "No: bob@example.org. anna@example.com is old."),
    ]
    answer = await chain.answer(*messages, restorable=True)
    assert answer.decision is Verdict.SANITIZED
    assert decisions(answer) == ["ALLOWED", "SANITIZED", "SANITIZED", "SANITIZED"]
    dumped = json.loads(answer.model_dump_json())
    assert dumped["sanitized_messages"] == [
        says("system", "Help."),
        says("user", [{"type": "text", "text": "I am <PERSON_1>."}, picture, {"type": "text", "text": "Hi!"}]),
        says("assistant", "Hello <PERSON_1>, is it still <EMAIL_ADDRESS_1>?", name="bot"),
        says("user", "No: <EMAIL_ADDRESS_2>. <EMAIL_ADDRESS_1> is old."),
    ]
    assert dumped["messages"][1]["sanitized_content"] == [
        {"type": "text", "text": "I am <PERSON_1>."},
        {"type": "image_url"},
        {"type": "text", "text": "Hi!"},
    ]
    assert dumped["messages"][1]["not_judged"] == ["image_url"]
    assert answer.sanitized_text is None
    assert answer.pii.count == 5
    opened = SEALER.open(answer.restore_map or "", DEFAULT_TENANT)
    back = restore("<PERSON_1> <EMAIL_ADDRESS_2>", opened.placeholders)
    assert back.text == "Anna Nowak bob@example.org"


async def test_a_placeholder_that_some_message_has_already_is_not_given_again(chain: Chain) -> None:
    answer = await chain.answer(says("user", "I am Anna Nowak."), says("assistant", "<PERSON_1> is somebody else."))
    assert answer.messages is not None
    assert answer.messages[0].sanitized_content == "I am <PERSON_2>."


async def test_a_chat_goes_on_with_the_placeholders_of_the_map_that_it_names(chain: Chain) -> None:
    before = await chain.answer(says("user", "Write to anna@example.com or bob@example.org"), restorable=True)
    messages = (says("user", "Who is <EMAIL_ADDRESS_1>?"), says("assistant", "Ask eve@example.net and bob@example.org"))
    answer = await chain.answer(*messages, restore_map=before.restore_map, restorable=True)
    assert answer.messages is not None
    assert answer.messages[1].sanitized_content == "Ask <EMAIL_ADDRESS_3> and <EMAIL_ADDRESS_2>"
    opened = SEALER.open(answer.restore_map or "", DEFAULT_TENANT)
    back = restore("<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2> <EMAIL_ADDRESS_3>", opened.placeholders)
    assert back.text == "anna@example.com bob@example.org eve@example.net"
    record = await chain.record(*messages, restore_map=before.restore_map)
    assert str(before.restore_map) not in record.model_dump_json()
    assert record.text_digest == (await chain.record(*messages)).text_digest


async def test_a_system_message_stays_where_that_is_asked(chain: Chain) -> None:
    messages = (says("system", "You work for Anna Nowak."), says("user", "I met Anna Nowak."))
    changed, left = [await chain.answer(*messages, redact_system=value) for value in (True, False)]
    assert decisions(changed) == ["SANITIZED", "SANITIZED"]
    assert decisions(left) == ["ALLOWED", "SANITIZED"]
    assert left.pii.count == 1
    assert [message.content for message in left.sanitized_messages or []] == [
        "You work for Anna Nowak.",
        "I met <PERSON_1>.",
    ]


async def test_what_a_caller_leaves_in_a_system_message_is_not_in_the_log(chain: Chain) -> None:
    messages = (says("system", "You work for Anna Nowak."), says("user", "I met Jan Kowalski."))
    record = await chain.record(*messages, redact_system=False)
    assert record.as_logged().redacted_text == "You work for <PERSON_1>.\n\nI met <PERSON_2>."


async def test_a_chat_may_have_every_sign_of_the_private_use_area(chain: Chain) -> None:
    signs = "".join(map(chr, (*range(0xE000, 0xF900), *range(0x10F000, 0x110000))))
    async with asyncio.timeout(30):  # A failure that no future can carry would leave the worker waiting for ever.
        answer = await chain.answer(says("user", signs), says("user", "Mail anna@example.com"))
    assert answer.messages is not None
    assert answer.messages[1].sanitized_content == "Mail <EMAIL_ADDRESS_1>"


async def test_all_messages_together_list_what_one_text_may(chain: Chain) -> None:
    texts = [" ".join(f"{place}.{number}@b.co" for number in range(400)) for place in range(5)]
    record = await chain.record(*[says("user", text) for text in texts])
    assert record.answer.messages is not None
    assert record.answer.pii.count == 2_000
    assert [len(message.findings) for message in record.answer.messages] == [400, MAX_LISTED_SPANS - 400, 0, 0, 0]
    assert {message.decision for message in record.answer.messages} == {Verdict.SANITIZED}


async def test_nothing_is_read_over_the_end_of_a_message(chain: Chain) -> None:
    answer = await chain.answer(says("user", "4111 1111 1111"), says("user", "1111 is all I know"))
    assert answer.pii.count == 0


async def test_a_value_that_a_policy_keeps_is_in_the_answer_and_not_in_the_log(chain: Chain) -> None:
    chain.redaction = RedactionTable.model_validate({"entities": {"LOCATION": "keep", "PERSON": "keep"}})
    messages = (says("user", "I am Anna Nowak, anna@example.com"), says("user", "Anna Nowak again"))
    record = await chain.record(*messages)
    assert record.answer.messages is not None
    assert record.answer.messages[0].sanitized_content == "I am Anna Nowak, <EMAIL_ADDRESS_1>"
    assert record.answer.messages[1].sanitized_content is None
    logged = record.as_logged()
    assert logged.redacted_text == "I am <PERSON_1>, <EMAIL_ADDRESS_1>\n\n<PERSON_1> again"
    assert "Nowak" not in logged.model_dump_json()


async def test_the_log_has_the_redacted_chat_and_a_digest_of_roles_and_texts(chain: Chain) -> None:
    record = await chain.record(says("user", "Mail anna@example.com"), says("assistant", "Sent."))
    assert record.redacted_text == "Mail <EMAIL_ADDRESS_1>\n\nSent."
    assert record.text_length == len("Mail anna@example.com\n\nSent.")
    other = await chain.record(says("user", "Mail anna@example.com"), says("user", "Sent."))
    assert record.text_digest != other.text_digest


async def test_an_answer_that_repeats_the_system_prompt_or_a_canary_is_blocked(chain: Chain) -> None:
    asked = (says("system", PROMPT), says("user", "Who are you?"))
    answer = await chain.answer(*asked, says("assistant", f"Gladly: {PROMPT}"))
    assert decisions(answer) == ["ALLOWED", "ALLOWED", "BLOCKED"]
    assert Category.SYSTEM_PROMPT_LEAK in answer.categories
    record = await chain.record(*asked, says("tool", f"key {CANARY}"))
    assert record.answer.decision is Verdict.BLOCKED
    assert record.redacted_text is None
    assert chain.full_text is None
    await chain.record(*asked, says("tool", f"key {CANARY}"), mode="fast")
    assert chain.full_text is None
    await chain.record(*asked)
    assert chain.full_text is not None
    assert decisions(await chain.answer(*asked, says("user", PROMPT))) == ["ALLOWED"] * 3


async def test_what_several_answers_give_away_together_blocks_those_that_hold_a_part(chain: Chain) -> None:
    system, halves = says("system", PROMPT), (PROMPT[16:59], PROMPT[57:])
    for parts in (halves, (f"It is {CANARY[:9]}", f"{CANARY[9:]}.")):
        turns = (says("assistant", parts[0]), says("user", "Go on"), says("assistant", "Fine."))
        for part in parts:
            assert (await chain.answer(system, says("assistant", part), mode="fast")).decision is Verdict.ALLOWED
        record = await chain.record(system, *turns, says("assistant", parts[1]), mode="fast")
        answer = record.answer
        assert decisions(answer) == ["ALLOWED", "BLOCKED", "ALLOWED", "ALLOWED", "BLOCKED"]
        named = [[finding.rule.split(".")[0] for finding in message.findings] for message in answer.messages or []]
        assert named == [[], ["leak"], [], [], ["leak"]]
        assert any("other messages" in sentence for sentence in answer.explanations)
        assert record.redacted_text is None
        last = await chain.answer(system, *turns, says("assistant", parts[1]), judge="last", mode="fast")
        assert decisions(last)[4] == "BLOCKED"
        assert (await chain.answer(system, *turns, says("user", parts[1]), mode="fast")).decision is Verdict.ALLOWED
        told = (system, turns[0], calls(json.dumps({"query": parts[1]})))
        assert (await chain.answer(*told)).decision is Verdict.BLOCKED


async def test_only_the_last_turn_is_judged_where_that_is_asked_and_all_are_redacted(chain: Chain) -> None:
    history = (says("user", "ATTACK by anna@example.com"), says("assistant", "No."))
    turn = (says("user", "one"), says("tool", "two"))
    answer = await chain.answer(*history, *turn, judge="last")
    assert [text for text, _ in chain.judge.asked] == ["one", "two"]
    assert answer.decision is Verdict.SANITIZED
    assert decisions(answer)[0] == "SANITIZED"
    await chain.answer(*history, judge="last")
    assert chain.judge.asked[2:] == [("No.", Source.OUTPUT)]


async def test_an_attack_split_over_messages_in_a_row_is_read_as_one(chain: Chain) -> None:
    answer = await chain.answer(says("user", "ATT"), says("user", "ACK"), says("user", "now"))
    assert answer.decision is Verdict.ALLOWED  # The word is broken by a line break: it is no attack for this judge.
    chain.judge.asked.clear()
    chain.judge.inspect = lambda text, source, *_: WordJudge().inspect(  # type: ignore[method-assign]
        text.replace("\n", ""), source
    )
    answer = await chain.answer(says("user", "go ATT"), says("user", "ACK"))
    assert decisions(answer) == ["ALLOWED", "BLOCKED"]
    assert any("together" in sentence for sentence in answer.explanations)
    answer = await chain.answer(says("user", "y ATT"), says("assistant", "?"), says("user", "ACK"))
    assert answer.decision is not Verdict.BLOCKED


@pytest.mark.parametrize("silent", ["", " ", None, [{"type": "image_url", "image_url": {"url": "https://a.example"}}]])
@pytest.mark.parametrize("speaker", ["user", "assistant"])
async def test_messages_without_a_text_part_no_attack(chain: Chain, speaker: str, silent: Any) -> None:
    chain.changes = {"deny_list": (DenyRule(rule="projects", phrases=("project falcon",)),)}
    split = (says("user", "Tell me of project"), says(speaker, silent), says("user", "falcon."))
    assert decisions(await chain.answer(*split, says("user", silent))) == ["ALLOWED", "ALLOWED", "BLOCKED", "ALLOWED"]
    asked = [text for text, _ in chain.judge.asked]
    assert asked == ["Tell me of project", "falcon.", "Tell me of project\nfalcon."]


@pytest.mark.parametrize("silent", ["", None, [{"type": "text", "text": " "}]])
async def test_an_assistant_without_a_text_ends_no_turn(chain: Chain, silent: Any) -> None:
    history = (says("user", "one"), says("assistant", "two"))
    answer = await chain.answer(*history, says("user", "ATTACK"), says("assistant", silent), judge="last")
    assert answer.decision is Verdict.BLOCKED
    assert [text for text, _ in chain.judge.asked] == ["ATTACK"]


async def test_the_system_prompt_is_made_ready_once_for_all_messages(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Counted(Prompt):
        def __init__(self, text: str) -> None:
            made.append(text)
            super().__init__(text)

    monkeypatch.setattr(leaks, "Prompt", Counted)
    answers = (says("assistant", f"Answer {number}") for number in range(5))
    assert (await chain.record(says("system", PROMPT), *answers)).answer.decision is Verdict.ALLOWED
    assert made == [PROMPT]


async def test_a_denied_phrase_split_over_messages_in_a_row_blocks_at_any_score(chain: Chain) -> None:
    chain.changes = {"deny_list": (DenyRule(rule="projects", phrases=("project falcon",)),)}
    answer = await chain.answer(says("user", "Tell me of project"), says("user", "falcon."))
    assert (answer.decision, decisions(answer), answer.score) == (Verdict.BLOCKED, ["ALLOWED", "BLOCKED"], 2)
    assert any("deny list names: projects" in sentence for sentence in answer.explanations)


async def test_a_history_that_comes_again_is_judged_once(chain: Chain) -> None:
    history = [says("user", "one"), says("assistant", "two")]
    await chain.answer(*history)
    await chain.answer(*history, says("user", "three"))
    assert [text for text, _ in chain.judge.asked] == ["one", "two", "three"]
    await chain.answer(says("tool", "one"))
    assert chain.judge.asked[-1] == ("one", Source.TOOL)


async def test_fast_mode_looks_for_no_personal_data(chain: Chain) -> None:
    record = await chain.record(says("user", "Mail anna@example.com"), mode="fast")
    assert record.answer.decision is Verdict.ALLOWED
    assert record.redacted_text is None
    assert not record.answer.pii.scanned


async def test_a_scan_that_failed_blocks_as_it_does_for_a_text(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(PiiEngine, "find", fail)
    answer = await chain.answer(says("user", "one"))
    assert answer.decision is Verdict.BLOCKED
    assert answer.pii.degraded


async def test_a_phrase_of_the_deny_list_blocks_the_message_that_holds_it(chain: Chain) -> None:
    chain.changes = {"deny_list": (DenyRule(rule="projects", phrases=("project falcon",)),)}
    answer = await chain.answer(says("user", "hello"), says("assistant", "hi"), says("user", "Project Falcon?"))
    assert (answer.decision, decisions(answer)) == (Verdict.BLOCKED, ["ALLOWED", "ALLOWED", "BLOCKED"])
    assert [(each.rule, each.start) for each in answer.findings if each.detector == "deny_list"] == [("projects", 11)]


async def test_a_dry_run_of_a_chat_lets_every_message_pass(chain: Chain) -> None:
    chat = says("user", "ATTACK by anna@example.com"), says("assistant", "no"), says("user", "bob@example.com")
    answer = await chain.answer(*chat, dry_run=True)
    assert (answer.decision, answer.would_decide) == (Verdict.ALLOWED, Verdict.BLOCKED)
    assert set(decisions(answer)) == {"ALLOWED"}
    harmless = await chain.answer(*chat[1:], dry_run=True)
    assert (harmless.would_decide, harmless.sanitized_messages) == (Verdict.SANITIZED, None)
    assert [each.sanitized_content for each in harmless.messages or []] == [None, None]


async def test_a_chat_that_names_no_mode_is_judged_as_the_policy_says(chain: Chain) -> None:
    chain.changes = {"mode": "fast"}
    answer = await chain.answer(says("user", "hello"))
    assert (answer.mode, answer.pii.scanned) == (Mode.FAST, False)


def calls(*arguments: Any, content: Any = None) -> dict[str, Any]:
    named = [
        {"id": f"call_{index}", "type": "function", "function": {"name": "mail", "arguments": each}}
        for index, each in enumerate(arguments)
    ]
    return says("assistant", content, tool_calls=named)


async def test_arguments_are_judged_as_an_output_each_call_by_itself(chain: Chain) -> None:
    mail = '{"to": "it", "body": ["good", "an ATTACK"], "urgent": true}'
    answer = await chain.answer(says("user", "Write"), calls('{"city": "Leeds"}', mail, content="Of course."))
    assert chain.judge.asked == [
        ("Write", Source.INPUT),
        ("Of course.", Source.OUTPUT),
        ("Leeds", Source.OUTPUT),
        ("it\ngood\nan ATTACK", Source.OUTPUT),
    ]
    assert answer.decision is Verdict.BLOCKED
    assert decisions(answer) == ["ALLOWED", "BLOCKED"]
    assert answer.explanations[0].startswith("Message 1 (assistant, tool_calls.1.function.arguments): ")
    verdict = (answer.messages or [])[1]
    assert (verdict.judged, verdict.findings) == (True, [])
    assert [(each.path, each.decision) for each in verdict.arguments or []] == [
        ("tool_calls.0.function.arguments", Verdict.ALLOWED),
        ("tool_calls.1.function.arguments", Verdict.BLOCKED),
    ]
    (finding,) = (verdict.arguments or [])[1].findings
    assert (finding.pointer, finding.start, finding.end) == ("/body/1", 3, 9)
    whole = "Write\n\nOf course.\n\nLeeds\n\nit\ngood\nan ATTACK"
    assert [whole[each.start : each.end] for each in answer.findings] == ["ATTACK"]
    assert answer.sanitized_messages is None


async def test_arguments_come_back_as_json_of_their_shape_with_the_chats_placeholders(chain: Chain) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    used = {"type": "tool_use", "id": "t", "name": "mail", "input": {"to": ["anna@example.com", 7], "cc": None}}
    messages = [
        says("user", "I am Anna Nowak, anna@example.com"),
        calls(
            '{"to" : "anna@example.com", "n": 1.50}', "not json: anna@example.com", '{"city": "here"}', content="Done"
        ),
        says("assistant", [{"type": "text", "text": "For Anna Nowak"}, used, picture]),
        says("assistant", None, function_call={"name": "mail", "arguments": '["bob@example.org"]'}),
    ]
    answer = await chain.answer(*messages, restorable=True)
    assert decisions(answer) == ["SANITIZED"] * 4
    dumped = json.loads(answer.model_dump_json())
    assert dumped["sanitized_messages"] == [
        says("user", "I am <PERSON_1>, <EMAIL_ADDRESS_1>"),
        calls(
            '{"to" : "<EMAIL_ADDRESS_1>", "n": 1.50}', "not json: <EMAIL_ADDRESS_1>", '{"city": "here"}', content="Done"
        ),
        says(
            "assistant",
            [
                {"type": "text", "text": "For <PERSON_1>"},
                used | {"input": {"to": ["<EMAIL_ADDRESS_1>", 7], "cc": None}},
                picture,
            ],
        ),
        says("assistant", None, function_call={"name": "mail", "arguments": '["<EMAIL_ADDRESS_2>"]'}),
    ]
    assert dumped["messages"][1]["sanitized_content"] is None
    assert [each["sanitized_texts"] for each in dumped["messages"][1]["arguments"]] == [
        [{"pointer": "/to", "text": "<EMAIL_ADDRESS_1>"}],
        [{"pointer": "", "text": "not json: <EMAIL_ADDRESS_1>"}],
        None,
    ]
    assert "arguments" not in dumped["messages"][0]
    assert answer.pii.count == 7
    opened = SEALER.open(answer.restore_map or "", DEFAULT_TENANT)
    assert restore("<EMAIL_ADDRESS_2>", opened.placeholders).text == "bob@example.org"


async def test_what_a_tool_gave_back_is_judged_as_a_tools_and_comes_back_in_its_shape(chain: Chain) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    given = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "From Anna Nowak"}, picture],
    }
    plain = {"type": "tool_result", "tool_use_id": "u", "content": "bob@example.org"}
    answer = await chain.answer(says("user", [given, plain, {"type": "text", "text": "What now?"}]))
    assert chain.judge.asked == [
        ("What now?", Source.INPUT),
        ("From Anna Nowak", Source.TOOL),
        ("bob@example.org", Source.TOOL),
    ]
    dumped = json.loads(answer.model_dump_json())
    assert dumped["sanitized_messages"] == [
        says(
            "user",
            [
                given | {"content": [{"type": "text", "text": "From <PERSON_1>"}, picture]},
                plain | {"content": "<EMAIL_ADDRESS_1>"},
                {"type": "text", "text": "What now?"},
            ],
        )
    ]
    (verdict,) = answer.messages or []
    assert verdict.not_judged == ["image"]
    assert [each.path for each in verdict.arguments or []] == ["content.0.content", "content.1.content"]


async def test_an_attack_in_what_a_tool_gave_back_blocks_the_chat(chain: Chain) -> None:
    given = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "an ATTACK"}]}
    answer = await chain.answer(says("user", "Read it"), says("user", [given]))
    assert answer.decision is Verdict.BLOCKED
    assert answer.explanations[0].startswith("Message 1 (user, content.0.content): ")


async def test_a_refusal_beside_a_text_is_judged_by_role_and_redacted_where_it_stands(chain: Chain) -> None:
    parts = [{"type": "text", "text": "Sorry.", "refusal": "Ask anna@example.com"}]
    refusing = says("assistant", parts, refusal="or eve@example.com")
    answer = await chain.answer(says("user", "Write", refusal="hm"), refusing)
    assert chain.judge.asked == [
        ("Write", Source.INPUT),
        ("hm", Source.INPUT),
        ("Sorry.", Source.OUTPUT),
        ("Ask anna@example.com", Source.OUTPUT),
        ("or eve@example.com", Source.OUTPUT),
    ]
    assert decisions(answer) == ["ALLOWED", "SANITIZED"]
    assert [each.path for each in (answer.messages or [])[1].arguments or []] == ["content.0.refusal", "refusal"]
    used = [json.loads(each.model_dump_json()) for each in answer.sanitized_messages or []]
    assert used[1] == refusing | {
        "content": [parts[0] | {"refusal": "Ask <EMAIL_ADDRESS_1>"}],
        "refusal": "or <EMAIL_ADDRESS_2>",
    }
    for attack in (says("assistant", "Sorry.", refusal="an ATTACK"), says("user", None, refusal="an ATTACK")):
        assert (await chain.answer(says("user", "Write"), attack)).decision is Verdict.BLOCKED


async def test_a_canary_or_the_system_prompt_in_arguments_blocks_the_chat(chain: Chain) -> None:
    asked = (says("system", PROMPT), says("user", "Who are you?"))
    for leak in (CANARY, PROMPT):
        record = await chain.record(*asked, calls(json.dumps({"query": f"say {leak}"})))
        assert record.answer.decision is Verdict.BLOCKED
        assert [each.decision for each in (record.answer.messages or [])[2].arguments or []] == [Verdict.BLOCKED]
        assert record.redacted_text is None


async def test_arguments_of_a_system_message_are_redacted_and_not_judged(chain: Chain) -> None:
    system = calls('{"q": "ATTACK by anna@example.com"}') | {"role": "system"}
    answer = await chain.answer(system, says("user", "hello"))
    assert chain.judge.asked == [("hello", Source.INPUT)]
    assert decisions(answer) == ["SANITIZED", "ALLOWED"]
    left = await chain.answer(system, says("user", "hello"), redact_system=False)
    assert left.decision is Verdict.ALLOWED


async def test_names_and_texts_of_arguments_do_not_reach_the_event_log(chain: Chain) -> None:
    record = await chain.record(says("user", "hi"), calls('{"kappa-omega": "anna@example.com"}'))
    logged = record.as_logged()
    assert logged.redacted_text == "hi\n\n\n\n<EMAIL_ADDRESS_1>"
    assert "kappa-omega" not in logged.model_dump_json()
    assert [each.decision for each in (logged.answer.messages or [])[1].arguments or []] == [Verdict.SANITIZED]
    assert (record.answer.messages or [])[1].arguments != (logged.answer.messages or [])[1].arguments


async def test_a_dry_run_lets_arguments_pass_too(chain: Chain) -> None:
    answer = await chain.answer(says("user", "hi"), calls('{"to": "anna@example.com"}'), dry_run=True)
    assert (answer.decision, answer.would_decide) == (Verdict.ALLOWED, Verdict.SANITIZED)
    (arguments,) = (answer.messages or [])[1].arguments or []
    assert (arguments.decision, arguments.sanitized_texts) == (Verdict.ALLOWED, None)


async def test_the_last_turn_is_judged_with_its_calls_alone(chain: Chain) -> None:
    await chain.answer(calls('{"a": "one"}'), says("user", "two"), calls('{"a": "three"}'), judge="last")
    assert [text for text, _ in chain.judge.asked] == ["three"]


async def test_fast_mode_judges_arguments_and_redacts_nothing(chain: Chain) -> None:
    answer = await chain.answer(says("user", "hi"), calls('{"a": "an ATTACK"}'), mode="fast")
    assert answer.decision is Verdict.BLOCKED
