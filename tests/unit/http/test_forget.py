"""An order to forget that is kept is told with its id, whatever happens while its end is waited for."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.access.principal import ANONYMOUS
from app.errors import MessagingUnavailable
from app.http import forget
from app.http.gate import PRINCIPAL
from app.identity import new_request_id, now
from app.log_contracts import ForgetKind, ForgetOrder, ForgetRequest, ForgetState
from app.settings import HttpSettings

ORDER = ForgetOrder(forget_id=new_request_id(), kind=ForgetKind.KEY, salt="0" * 32, fingerprint="f", asked_at=now())


class Forgetting:
    """Carries an order out, and cannot be asked how far it is for so many times."""

    def __init__(self, unanswered: int) -> None:
        self.unanswered = unanswered

    async def forget(self, request: ForgetRequest, actor: str) -> ForgetOrder:
        return ORDER

    async def forget_order(self, forget_id: UUID) -> ForgetOrder:
        if self.unanswered:
            self.unanswered -= 1
            raise MessagingUnavailable
        return ORDER.model_copy(update={"state": ForgetState.DONE})


@pytest.mark.parametrize(
    ("unanswered", "status", "state"), [(0, 200, "done"), (2, 200, "done"), (10**9, 202, "pending")]
)
async def test_an_order_is_told_also_where_the_message_server_is_away_while_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, unanswered: int, status: int, state: str
) -> None:
    monkeypatch.setattr(forget, "POLL_S", 0.0)
    monkeypatch.setattr(forget, "WAIT_S", 0.1 if status == 202 else 10.0)
    app = FastAPI()
    app.include_router(forget.router(Forgetting(unanswered), HttpSettings()))

    async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, PRINCIPAL: ANONYMOUS}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(admitted), base_url="http://localhost") as client:
        answer = await client.post("/admin/forget", json={"key_id": "k"})
    assert (answer.status_code, answer.json()["state"]) == (status, state)
    assert answer.json()["forget_id"] == str(ORDER.forget_id)
