"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fastapi import APIRouter, Response

from app.contracts import Readiness
from app.telemetry import counting
from app.telemetry.exposition import exposition
from app.telemetry.metrics import CONTENT_TYPE


class Checked(Protocol):
    async def readiness(self) -> Readiness: ...


def router(service: Checked) -> APIRouter:
    routes = APIRouter(tags=["operations"])
    reading: asyncio.Task[bytes] | None = None

    @routes.head("/health", include_in_schema=False)  # As load balancers ask; the server leaves the body out.
    @routes.head("/livez", include_in_schema=False)
    @routes.get("/health")
    @routes.get("/livez")
    async def alive() -> dict[str, str]:
        """Whether the process runs; says nothing of the parts it depends on."""
        return {"status": "alive"}

    @routes.head("/health/ready", include_in_schema=False)
    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/health/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def ready() -> Response:
        """Whether requests can be decided, with a reason for each part that fails."""
        readiness = await service.readiness()
        return Response(readiness.model_dump_json(), 200 if readiness.ready else 503, media_type="application/json")

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        nonlocal reading
        # One for all who ask meanwhile, since anybody may: others wait for the same threads.
        if reading is None or reading.done():
            counting.hand_over()
            # In a thread: with several workers it reads the files of all and may wait for a scrape of another.
            reading = asyncio.create_task(asyncio.to_thread(exposition), name="metrics")
        # One caller who goes away takes nothing from the others.
        return Response(await asyncio.shield(reading), media_type=CONTENT_TYPE)

    return routes
