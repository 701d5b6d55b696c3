"""Presidio's endpoints under /presidio: analyze, anonymize, supportedentities, recognizers and anonymizers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from app.contracts import Anonymized
from app.errors import InvalidRequest
from app.gateways import presidio
from app.gateways.presidio import MOST_TEXTS, AnonymizeBody, FoundValue, PiiAnalyzeBody, PresidioError
from app.http import body
from app.http.gate import counted, principal_of
from app.http.gateways.service import PiiService
from app.http.guard import json_body
from app.settings import HttpSettings
from app.validation import parse

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": PresidioError, "description": description}
    for status, description in {
        422: "A field does not fit.",
        500: "The scan failed.",
        503: "Too busy; see Retry-After.",
        504: "Not read in time.",
    }.items()
}
FOUND_IN: Final = "Call Anna Nowak at anna@example.com"
Language = Annotated[str | None, Query(pattern=r"^[a-z]{2}$")]


def router(service: PiiService, http: HttpSettings) -> APIRouter:
    routes = APIRouter(prefix="/presidio", tags=["Presidio"])

    @routes.post(
        "/analyze",
        response_model=list[FoundValue] | list[list[FoundValue]],
        responses=ERRORS,
        openapi_extra=json_body(PiiAnalyzeBody, {"text": FOUND_IN, "language": "en"}),
        summary="Find personal data",
    )
    async def analyze(request: Request) -> Response:
        content = await body.read(request, http.body_limit_bytes)
        asked = parse(PiiAnalyzeBody, content, text_limit=http.text_limit)
        caller = principal_of(request.scope)
        most = caller.batch_limit(MOST_TEXTS)
        if len(asked.texts) > most:
            raise InvalidRequest(f"may hold at most {most} texts", field="text")
        for text in asked.texts:
            caller.check_length(text, field="text")
        wanted = asked.wanted(service.pii_kinds(asked.language))
        with counted(request.scope, len(asked.texts)):
            found = await service.find_pii(asked.query())
        return Response(presidio.to_results(asked, found, wanted), media_type="application/json")

    @routes.post(
        "/anonymize",
        response_model=Anonymized,
        responses=ERRORS,
        openapi_extra=json_body(
            AnonymizeBody,
            {"text": FOUND_IN, "analyzer_results": [{"start": 5, "end": 15, "score": 0.9, "entity_type": "PERSON"}]},
        ),
        summary="Replace what was found",
    )
    async def anonymize(request: Request) -> Response:
        content = await body.read(request, http.body_limit_bytes)
        asked = parse(AnonymizeBody, content, text_limit=http.text_limit)
        principal_of(request.scope).check_length(asked.text, field="text")
        job = asked.job()
        with counted(request.scope, 1):
            anonymized = await service.anonymize(job)
        return Response(anonymized.model_dump_json(), media_type="application/json")

    @routes.get("/supportedentities", responses=ERRORS)
    async def supported_entities(language: Language = None) -> list[str]:
        """Return the kinds that are looked for in texts of a language, or of any."""
        return service.pii_kinds(language)

    @routes.get("/recognizers", responses=ERRORS)
    async def recognizers(language: Language = None) -> list[str]:
        """Return the names of the recognizers that read texts of a language, or of any."""
        return service.pii_recognizers(language)

    @routes.get("/anonymizers")
    async def anonymizers() -> list[str]:
        """Return what can be done with a value."""
        return list(presidio.ANONYMIZERS)

    @routes.get("/health", include_in_schema=False)
    async def health() -> str:
        """Tell Presidio's clients that both of its services are up."""
        return "Presidio Analyzer service is up"

    return routes
