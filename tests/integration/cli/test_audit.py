"""The audit record on a real server: what is recorded is read back, newest first, and cannot be taken out again."""

from __future__ import annotations

import pytest
from nats.js.errors import APIError

from app.admin_contracts import AuditEvent
from app.errors import MessagingUnavailable
from app.messaging import audit
from tests.integration.cli.conftest import Declared, Vigil, parsed

pytestmark = pytest.mark.integration


async def test_entries_are_read_newest_first_page_by_page(vigil: Vigil, declared: Declared) -> None:
    for number in range(5):
        await audit.record(declared.jetstream, AuditEvent(actor="k1", action="keys.create", target=f"t{number}"))
    first = parsed(await vigil("audit", "ls", "-n", "2", "-j"))
    assert [each["target"] for each in first["entries"]] == ["t4", "t3"]
    second = parsed(await vigil("audit", "ls", "-n", "2", "-j", "--cursor", first["next_cursor"]))
    assert [each["target"] for each in second["entries"]] == ["t2", "t1"]
    last = parsed(await vigil("audit", "ls", "-n", "2", "-j", "--cursor", second["next_cursor"]))
    assert [each["target"] for each in last["entries"]] == ["t0"]
    assert last["next_cursor"] is None
    shown = (await vigil("audit", "ls", "-n", "2")).stdout
    assert "keys.create" in shown
    assert "t4" in shown


async def test_a_filter_finds_an_action_far_behind_others(vigil: Vigil, declared: Declared) -> None:
    await audit.record(declared.jetstream, AuditEvent(actor="a", action="keys.revoke", target="old"))
    for _ in range(audit.FIRST_LOOK + 20):
        await audit.record(declared.jetstream, AuditEvent(actor="a", action="policies.apply"))
    for action in ("keys", "keys.revoke"):
        found = parsed(await vigil("audit", "ls", "--action", action, "-j"))
        assert [each["target"] for each in found["entries"]] == ["old"]
    assert parsed(await vigil("audit", "ls", "--action", "key", "-j"))["entries"] == []


async def test_the_record_cannot_be_changed(declared: Declared) -> None:
    await audit.record(declared.jetstream, AuditEvent(actor="a", action="keys.create"))
    with pytest.raises(APIError):
        await declared.jetstream.delete_msg("VIGIL_AUDIT", 1)
    with pytest.raises(APIError):
        await declared.jetstream.purge_stream("VIGIL_AUDIT")
    assert len((await audit.entries(declared.jetstream, limit=10)).entries) == 1


async def test_an_entry_stays_on_one_line_and_a_strange_message_is_shown_as_such(declared: Declared) -> None:
    await declared.jetstream.publish("vigil.audit.forged", b"not json")
    await audit.record(declared.jetstream, AuditEvent(actor="a", action="x", detail="one\nactor: b\r\ttwo"))
    newest, strange = (await audit.entries(declared.jetstream, limit=10)).entries
    assert newest.detail == "one actor: b two"
    assert (strange.actor, strange.action, strange.detail) == ("unknown", "unreadable", "vigil.audit.forged")


async def test_an_action_that_cannot_be_recorded_is_an_error(declared: Declared) -> None:
    await declared.jetstream.delete_stream("VIGIL_AUDIT")
    with pytest.raises(MessagingUnavailable):
        await audit.record(declared.jetstream, AuditEvent(actor="a", action="keys.create"))


async def test_a_cursor_that_is_none_is_refused(vigil: Vigil, declared: Declared) -> None:
    for cursor in ("x", "-1", "1" * 30):
        result = await vigil("audit", "ls", "--cursor", cursor)
        assert result.exit_code == 2, result.output
