"""POST /restore is refused like the guard's requests: when too many texts wait, or one is longer than a key allows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from app.access.control import AccessControl, AccessMode
from app.access.keys import KeyRequest, Peppers, issue
from app.contracts import RestoreAnswer, RestoreRequest
from app.errors import MessagingUnavailable, Overloaded
from app.http import application
from app.settings import Settings
from tests.support import no_metering, open_access

BODY = {"text": "I wrote to <PERSON_1>.", "restore_map": "v2.none"}


class Busy:
    """A service with no room for one more text: known `early`, or once the text is there."""

    def __init__(self, *, early: bool) -> None:
        self.access, self.metering = open_access(), no_metering()
        self.early = early
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def restore_refusal(self) -> Overloaded | None:
        return Overloaded() if self.early else None

    async def restore(self, request: RestoreRequest, tenant: str) -> RestoreAnswer:
        self.asked += 1
        raise Overloaded


@pytest.mark.parametrize("early", [True, False])
async def test_a_text_that_has_no_room_is_refused(early: bool) -> None:
    service: Any = Busy(early=early)
    transport = httpx.ASGITransport(application.build(service, Settings(), "0.1.0"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/restore", json=BODY)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["type"] == "urn:vigil-guard:problem:overloaded"
    assert service.asked == (not early)


@pytest.mark.parametrize(("length", "status"), [(22, 503), (21, 422)])
async def test_a_keys_longest_text_holds_for_what_is_restored_and_reported(length: int, status: int) -> None:
    service: Any = Busy(early=False)
    peppers = Peppers([b"pepper-of-32-characters-or-more-1"])
    wanted = {"name": "x", "limits": {"text_length": length}}
    token, record = issue(KeyRequest.model_validate(wanted), peppers, created_by="test")
    service.access = AccessControl(AccessMode.KEYS, peppers, None)
    service.access.replace([record])
    service.find = unavailable
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(application.build(service, Settings(), "0.1.0"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        report = {"verdict": "correct", "text": BODY["text"]}
        for path, body in (("/restore", BODY), (f"/guard/{UUID(int=7)}/feedback", report)):
            response = await client.post(path, json=body)
            assert response.status_code == status
            assert status != 422 or [error["field"] for error in response.json()["errors"]] == ["text"]
    assert service.asked == (status == 503)


async def unavailable(*_: object) -> None:
    raise MessagingUnavailable
