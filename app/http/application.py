"""The ASGI application: endpoints, error answers and documentation pages around one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware

from app.access.control import AccessControl
from app.access.keys import KeyChange, KeyRequest, RotationRequest
from app.access.metering import Metering
from app.contracts import GuardBatch, GuardRequest, Readiness, RestoreRequest
from app.errors import Overloaded
from app.http import (
    audit,
    document,
    events,
    feedback,
    forget,
    gateways,
    guard,
    health,
    keys,
    policies,
    problems,
    restore,
    stream,
)
from app.http.armour import Armour
from app.http.correlate import Correlate
from app.http.gate import Gate
from app.http.gateways.service import GatewayService
from app.http.lane import lane
from app.http.pages import mount_docs
from app.http.shapes import Shapes
from app.http.shedding import GUARD_PATHS, RESTORE_PATH, LoadShedding
from app.http.shield import Shield
from app.log_contracts import FeedbackRequest, ForgetRequest
from app.settings import Settings
from app.stream_contracts import StreamChunk, StreamOpening

BODIES: Final[tuple[type[BaseModel], ...]] = (
    GuardRequest,
    GuardBatch,
    RestoreRequest,
    StreamOpening,
    StreamChunk,
    *stream.EVENTS,
    KeyRequest,
    KeyChange,
    RotationRequest,
    FeedbackRequest,
    ForgetRequest,
    *gateways.BODIES,
    *policies.BODIES,
)
"""What endpoints read and write themselves."""


class Service(
    guard.Guard,
    restore.Restorer,
    stream.Streams,
    audit.AuditTrail,
    feedback.Feedback,
    forget.Forgetting,
    keys.KeyKeeper,
    policies.PolicyAdmin,
    GatewayService,
    Protocol,
):
    """What the HTTP room needs: all that its endpoints ask for, who is let in, readiness, and a life cycle."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def access(self) -> AccessControl: ...

    @property
    def metering(self) -> Metering: ...

    async def readiness(self) -> Readiness: ...

    def refusal(self) -> Overloaded | None: ...

    def restore_refusal(self) -> Overloaded | None: ...

    def asyncapi(self) -> str: ...


def build(service: Service, settings: Settings, version: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Vigil Guard",
        version=version,
        description="Checks prompts, model answers and tool outputs for injection, jailbreaks and personal data.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    shapes = Shapes(settings.gateways)
    app.add_middleware(
        Gate,
        access=service.access,
        metering=service.metering,
        shapes=shapes,
        body_timeout_s=settings.http.body_timeout_s,
    )
    refusals = dict.fromkeys(GUARD_PATHS, service.refusal) | {RESTORE_PATH: service.restore_refusal}
    app.add_middleware(LoadShedding, refusals=refusals, shapes=shapes)
    app.add_middleware(Shield, shapes=shapes)
    app.add_middleware(Correlate)
    origins = settings.http.cors_origins
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
        )
    app.add_middleware(Armour, origins=origins, hsts_s=settings.http.hsts_s, shapes=shapes)  # The outermost.
    problems.install(app, shapes)
    guarding = guard.router(service, settings.http)
    app.router.routes.insert(0, lane(guarding.routes, "/guard"))
    app.include_router(guarding)
    app.include_router(restore.router(service, settings.http))
    app.include_router(stream.router(service, settings.stream, settings.http.text_limit))
    app.include_router(gateways.router(service, settings.http, settings.gateways, version))
    app.include_router(feedback.router(service, settings.http))
    app.include_router(events.router(service))
    app.include_router(audit.router(service))
    app.include_router(policies.router(service))
    app.include_router(keys.router(service))
    app.include_router(forget.router(service, settings.http))
    app.include_router(health.router(service))
    mount_docs(app, service.asyncapi)
    app.openapi = document.completed(app.openapi, BODIES)  # type: ignore[method-assign]
    return app
