"""The endpoints of other products' contracts: each has a body's texts judged and answers as its clients expect."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from app.contracts import Message
from app.gateways.lakera import ScreeningRequest
from app.gateways.litellm import GuardrailCall
from app.gateways.presidio import AnonymizeBody, PiiAnalyzeBody
from app.gateways.vigil_enterprise import AnalyzeBody, BatchBody, InputBody, OutputBody
from app.http.gateways import lakera, litellm, presidio, vigil_enterprise
from app.http.gateways.service import GatewayService
from app.settings import GatewaySettings, HttpSettings

BODIES: Final[tuple[type[Message], ...]] = (
    InputBody,
    OutputBody,
    AnalyzeBody,
    BatchBody,
    GuardrailCall,
    ScreeningRequest,
    PiiAnalyzeBody,
    AnonymizeBody,
)
"""What the endpoints read, for the OpenAPI document."""


def router(service: GatewayService, http: HttpSettings, settings: GatewaySettings, version: str) -> APIRouter:
    routes = APIRouter()
    routes.include_router(vigil_enterprise.router(service, http, settings))
    routes.include_router(litellm.router(service, http, settings))
    routes.include_router(lakera.router(service, http, settings, version))
    routes.include_router(presidio.router(service, http))
    return routes
