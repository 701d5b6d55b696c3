"""POST /restore is refused like the guard's requests when too many texts wait, before its body is read or after."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.contracts import RestoreAnswer, RestoreRequest
from app.errors import Overloaded
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
