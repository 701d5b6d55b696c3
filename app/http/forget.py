"""POST /admin/forget and GET /admin/forget/{forget_id}: what is stored of a request, key, tenant or text is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, Protocol
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.errors import MessagingUnavailable
from app.http import body
from app.http.events import NOT_FOUND
from app.http.gate import actor_of
from app.http.guard import json_body, problems_of, uuid_of
from app.log_contracts import ForgetOrder, ForgetReport, ForgetRequest, ForgetState
from app.settings import HttpSettings
from app.validation import parse

WAIT_S: Final = 10.0
"""How long a caller waits for the end; an order takes three seconds where there is little to search."""
POLL_S: Final = 0.25


class Forgetting(Protocol):
    """What these endpoints need of the service."""

    async def forget(self, request: ForgetRequest, actor: str) -> ForgetOrder: ...

    async def forget_order(self, forget_id: UUID) -> ForgetOrder: ...


def router(service: Forgetting, settings: HttpSettings) -> APIRouter:
    routes = APIRouter(tags=["admin"])

    @routes.post(
        "/admin/forget",
        response_model=ForgetReport,
        responses=problems_of(400, 413, 415, 422, 503)
        | {202: {"model": ForgetReport, "description": "Kept, and not done yet; ask again by its id."}},
        openapi_extra=json_body(ForgetRequest, {"request_id": "01a214a2-d5f1-7354-adeb-bb61793cf035"}),
        summary="Delete what is stored",
    )
    async def forget(request: Request) -> Response:
        """Delete everything received until now of a request, a key, a tenant or a text, wherever it lies."""
        content = await body.read(request, settings.body_limit_bytes)
        wanted = parse(ForgetRequest, content, text_limit=settings.text_limit)
        order = await service.forget(wanted, actor_of(request.scope))
        until = time.monotonic() + WAIT_S
        while order.state is ForgetState.PENDING and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
            # The order is kept whether or not it can be looked at just now: its id is to be told.
            with contextlib.suppress(MessagingUnavailable):
                order = await service.forget_order(order.forget_id)
        return _answer(order)

    @routes.get(
        "/admin/forget/{forget_id}",
        response_model=ForgetReport,
        responses=problems_of(422, 503) | NOT_FOUND,
        summary="See how far a deletion is",
    )
    async def report(forget_id: str) -> Response:
        """Show what was removed where; orders are kept for 30 days, without what they named."""
        return _answer(await service.forget_order(uuid_of(forget_id, "forget_id")))

    return routes


def _answer(order: ForgetOrder) -> Response:
    status = 200 if order.state is ForgetState.DONE else 202
    return Response(ForgetReport.of(order).model_dump_json(), status, media_type="application/json")
