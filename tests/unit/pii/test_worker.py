"""The personal-data stage: the policy's table is carried out, and a map is sealed where the caller asked for one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.access.tenancy import is_same_request, kept_id
from app.contracts import (
    DetectionReport,
    Envelope,
    GuardedText,
    Mode,
    RestoreRequest,
    ScanJob,
    Source,
)
from app.errors import Overloaded, PolicyRefused, RestoreMapRefused
from app.identity import now, text_digest
from app.pii import worker as module
from app.pii.engine import PiiEngine
from app.pii.redaction import Placeholder, Redaction
from app.pii.sealing import MapSealer
from app.pii.worker import PiiWorker, Redactors, Restorer
from app.pinned import ScanRules
from app.redaction import REPLACE_ALL, RedactionTable

TEXT = "Write to anna@example.com about card 4111 1111 1111 1111"
ENVELOPE = Envelope(request_id=UUID(int=1), received_at=now())
SEALER = MapSealer((b"kappa-omega-secret-of-32-characters",), timedelta(hours=1))
TABLES = {
    "plain": {},
    "cards": {"entities": {"CREDIT_CARD": {"action": "mask", "keep_last": 4}}},
    "mail": {"entities": {"EMAIL_ADDRESS": "keep"}},
}


def tables(**content: Any) -> dict[str, RedactionTable]:
    return {policy: RedactionTable.model_validate(table) for policy, table in content.items()}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def rules(subject: GuardedText) -> ScanRules:
    name = subject.policy or "plain"
    table = tables(**TABLES).get(name, REPLACE_ALL)
    return ScanRules(name, table, ("ANNA@example.com",) if name == "lenient" else ())


@pytest.fixture
def worker(engine: PiiEngine, threads: ThreadPoolExecutor) -> PiiWorker:
    return PiiWorker(engine, threads, Redactors(b"key"), SEALER, rules)


def scan_job(policy: str | None = None, *, restorable: bool = False) -> ScanJob:
    return ScanJob(
        text=TEXT,
        language="en",
        allow_list=[],
        restorable=restorable,
        subject=GuardedText(
            digest=text_digest(TEXT), length=len(TEXT), mode=Mode.FULL, source=Source.INPUT, policy=policy
        ),
        detection=DetectionReport(branches={}, model_version="test"),
    )


@pytest.mark.parametrize(
    ("policy", "redacted", "kept", "log_text"),
    [
        (None, "Write to <EMAIL_ADDRESS_1> about card <CREDIT_CARD_1>", 0, None),
        ("plain", "Write to <EMAIL_ADDRESS_1> about card <CREDIT_CARD_1>", 0, None),
        ("cards", "Write to <EMAIL_ADDRESS_1> about card **** **** **** 1111", 0, None),
        (
            "mail",
            "Write to anna@example.com about card <CREDIT_CARD_1>",
            1,
            "Write to <EMAIL_ADDRESS_1> about card <CREDIT_CARD_1>",
        ),
    ],
)
async def test_the_table_of_the_named_policy_is_carried_out(
    worker: PiiWorker, policy: str | None, redacted: str, kept: int, log_text: str | None
) -> None:
    job = await worker(scan_job(policy), ENVELOPE)
    assert (job.redacted_text, job.kept, job.log_text, job.restore_map) == (redacted, kept, log_text, None)
    assert job.pii.count == 2


async def test_in_fast_mode_values_are_found_by_their_shape_alone(worker: PiiWorker) -> None:
    text = "Anna Nowak of Leeds, anna@example.com"
    job = scan_job()
    fast = job.model_copy(update={"text": text, "subject": job.subject.model_copy(update={"mode": Mode.FAST})})
    scanned = await worker(fast, ENVELOPE)
    assert scanned.redacted_text == "Anna Nowak of Leeds, <EMAIL_ADDRESS_1>"
    assert (scanned.pii.scanned, scanned.pii.scope) == (True, "patterns")
    whole = await worker(job.model_copy(update={"text": text}), ENVELOPE)
    assert "Anna" not in str(whole.redacted_text)
    assert whole.pii.scope == "all"


def test_a_kind_that_is_kept_never_lets_another_through(engine: PiiEngine) -> None:
    text = "see https://bob:secret@example.com/path"
    table = RedactionTable.model_validate({"entities": {"URL": "keep"}})
    redactor = Redactors(b"").of(ScanRules("links", table, ()))
    assert [entity.type for entity in engine.scan(text, "en", []).report.entities] == ["URL"]
    scan = engine.scan(text, "en", [], redactor)
    assert (scan.redacted_text, scan.kept) == ("see <EMAIL_ADDRESS_1>", 0)


async def test_a_restorable_text_comes_back_with_its_map_alone(worker: PiiWorker, threads: ThreadPoolExecutor) -> None:
    job = await worker(scan_job("cards", restorable=True), ENVELOPE)
    assert job.restore_map is not None
    assert "anna" not in job.model_dump_json()
    restorer = Restorer(threads, SEALER, 5)
    asked = RestoreRequest(text="Wrote to email_address_1 and <PERSON_1>.", restore_map=job.restore_map)
    answer = await restorer(asked, ENVELOPE.tenant)
    assert answer.text == "Wrote to anna@example.com and <PERSON_1>."
    assert (answer.request_id, answer.restored, answer.missing) == (ENVELOPE.request_id, 1, [])
    assert await restorer(asked.model_copy(update={"request_id": ENVELOPE.request_id}), ENVELOPE.tenant) == answer
    with pytest.raises(RestoreMapRefused):
        await restorer(asked.model_copy(update={"request_id": UUID(int=2)}), ENVELOPE.tenant)
    with pytest.raises(RestoreMapRefused):
        await restorer(asked, "another")


async def test_what_comes_back_names_the_request_as_its_caller_does(
    worker: PiiWorker, threads: ThreadPoolExecutor
) -> None:
    given = UUID(int=7)
    kept = kept_id("acme", given)
    restorer = Restorer(threads, SEALER, 5, is_same_request)
    for envelope in (
        Envelope(request_id=kept, given_id=given, received_at=now(), tenant="acme"),
        Envelope(request_id=kept, received_at=now(), tenant="acme"),  # As a release before this one sealed it.
    ):
        job = await worker(scan_job(restorable=True), envelope)
        asked = RestoreRequest(text="<EMAIL_ADDRESS_1>", restore_map=job.restore_map or "")
        told = envelope.given_id or kept
        for named, answered in ((None, told), (given, given), (kept, kept)):
            answer = await restorer(asked.model_copy(update={"request_id": named}), "acme")
            assert (answer.request_id, answer.text) == (answered, "anna@example.com")
        for another in (UUID(int=8), kept_id("acme", UUID(int=8)), kept_id("globex", given)):
            with pytest.raises(RestoreMapRefused):
                await restorer(asked.model_copy(update={"request_id": another}), "acme")


PROMPT_MAP = Redaction(
    "", (Placeholder("EMAIL_ADDRESS", 1, ("bob@example.org",)), Placeholder("CREDIT_CARD", 2, ("4111111111111111",)))
)


async def test_values_of_a_conversation_keep_their_numbers_and_new_ones_take_none_of_them(
    worker: PiiWorker, threads: ThreadPoolExecutor
) -> None:
    earlier = SEALER.seal(UUID(int=9), PROMPT_MAP, ENVELOPE.tenant) or ""
    asked = scan_job("mail", restorable=True)
    told = asked.model_copy(update={"text": "<EMAIL_ADDRESS_1>: " + TEXT, "restore_map": earlier})
    assert earlier not in repr(told)
    job = await worker(told, ENVELOPE)
    assert job.redacted_text == "<EMAIL_ADDRESS_1>: Write to anna@example.com about card <CREDIT_CARD_2>"
    assert job.log_text == "<EMAIL_ADDRESS_1>: Write to <EMAIL_ADDRESS_2> about card <CREDIT_CARD_2>"
    assert earlier not in job.model_dump_json()
    replacing = told.model_copy(update={"subject": asked.subject.model_copy(update={"policy": None})})
    job = await worker(replacing, ENVELOPE)
    assert job.redacted_text == "<EMAIL_ADDRESS_1>: Write to <EMAIL_ADDRESS_2> about card <CREDIT_CARD_2>"
    texts = [
        (
            await Restorer(threads, SEALER, 5)(
                RestoreRequest(text=job.redacted_text, restore_map=each or ""), "default"
            )
        ).text
        for each in (earlier, job.restore_map)
    ]
    assert texts == [
        "bob@example.org: Write to <EMAIL_ADDRESS_2> about card 4111111111111111",
        f"bob@example.org: {TEXT}",
    ]


async def test_a_map_that_cannot_be_used_is_refused_and_not_taken_for_a_failed_scan(worker: PiiWorker) -> None:
    sealed = SEALER.seal(UUID(int=9), PROMPT_MAP, ENVELOPE.tenant) or ""
    for restore_map, envelope in (
        ("v2.none", ENVELOPE),
        (sealed, ENVELOPE.model_copy(update={"tenant": "acme"})),
        (sealed, ENVELOPE.model_copy(update={"received_at": now() + timedelta(hours=2)})),
    ):
        with pytest.raises(RestoreMapRefused):
            await worker(scan_job().model_copy(update={"restore_map": restore_map}), envelope)


async def test_a_map_that_expired_while_its_request_waited_is_used(
    engine: PiiEngine, threads: ThreadPoolExecutor
) -> None:
    late = replace(SEALER, clock=lambda: now() + timedelta(hours=2))
    sealed = SEALER.seal(UUID(int=9), PROMPT_MAP, ENVELOPE.tenant)
    waited = scan_job(restorable=True).model_copy(update={"restore_map": sealed})
    job = await PiiWorker(engine, threads, Redactors(b"key"), late, rules)(waited, ENVELOPE)
    assert job.redacted_text == "Write to <EMAIL_ADDRESS_2> about card <CREDIT_CARD_2>"
    with pytest.raises(RestoreMapRefused):
        late.open(job.restore_map or "", ENVELOPE.tenant)


def test_a_job_without_a_map_is_as_replicas_know_it_that_know_of_none() -> None:
    assert "restore_map" not in scan_job().model_dump()


async def test_texts_to_restore_beyond_what_can_wait_are_refused_at_once(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RESTORING", 2)
    restorer = Restorer(threads, SEALER, 5)
    asked = RestoreRequest(text="Hello", restore_map="v2.none")
    may = threading.Event()
    threads.submit(may.wait, 10)
    waiting = [asyncio.create_task(restorer(asked, "default")) for _ in range(2)]
    await asyncio.sleep(0)
    assert isinstance(restorer.refusal(), Overloaded)
    with pytest.raises(Overloaded):
        await restorer(asked, "default")
    may.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [RestoreMapRefused] * 2
    assert restorer.refusal() is None


async def test_a_text_that_no_thread_takes_in_time_is_refused(threads: ThreadPoolExecutor) -> None:
    may = threading.Event()
    threads.submit(may.wait, 10)
    with pytest.raises(Overloaded):
        await Restorer(threads, SEALER, 0.05)(RestoreRequest(text="Hello", restore_map="v2.none"), "default")
    may.set()


def test_a_table_of_an_unknown_kind_is_refused_with_the_field_named() -> None:
    with pytest.raises(PolicyRefused, match=r"redaction\.entities\.PESEL: is no kind"):
        Redactors(b"").check(RedactionTable.model_validate({"entities": {"PESEL": "keep"}}))


@pytest.mark.parametrize("table", [{"default": "hash"}, {"entities": {"PERSON": "hash"}}])
def test_a_hash_without_a_key_is_refused(table: dict[str, Any]) -> None:
    hashing = RedactionTable.model_validate(table)
    with pytest.raises(PolicyRefused, match="VIGIL_PRIVACY__HASH_KEY"):
        Redactors(b"").check(hashing)
    Redactors(b"key").check(hashing)
    assert Redactors(b"key").of(ScanRules("mine", hashing, ())).hash_key == b"key"


async def test_values_of_the_policys_allow_list_are_never_personal_data(worker: PiiWorker) -> None:
    job = await worker(scan_job("lenient"), ENVELOPE)
    assert (job.redacted_text, job.pii.count) == ("Write to anna@example.com about card <CREDIT_CARD_1>", 1)
