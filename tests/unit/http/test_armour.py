"""Headers of every answer, and requests of other sites' pages: refused unless the site is listed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.http.armour import DEFAULTS, Armour
from app.http.shapes import Shapes
from app.settings import GatewaySettings, HttpSettings

HOST = (b"host", b"guard.example.com:8000")
Answered = tuple[int, dict[bytes, bytes]]


async def ask(
    *headers: tuple[bytes, bytes],
    origins: tuple[str, ...] = (),
    scheme: str = "http",
    answer: tuple[tuple[bytes, bytes], ...] = (),
    hsts_s: int = 60,
) -> Answered:
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(answer)})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/guard", "scheme": scheme, "headers": [HOST, *headers]}
    await Armour(application, origins, hsts_s, Shapes(GatewaySettings()))(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_every_answer_has_the_headers_once() -> None:
    status, headers = await ask()
    assert status == 200
    assert headers == dict(DEFAULTS)


async def test_what_a_page_says_itself_stays() -> None:
    _, headers = await ask(answer=((b"cache-control", b"public"), (b"content-security-policy", b"default-src 'self'")))
    assert headers[b"cache-control"] == b"public"
    assert headers[b"content-security-policy"] == b"default-src 'self'"
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(("scheme", "hsts_s", "told"), [("http", 60, False), ("https", 60, True), ("https", 0, False)])
async def test_browsers_are_told_to_insist_on_tls_over_tls_alone(scheme: str, hsts_s: int, told: bool) -> None:
    _, headers = await ask(scheme=scheme, hsts_s=hsts_s)
    assert (b"strict-transport-security" in headers) == told


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"", b"http://guard.example.com", b"http://guard.example.com:8001", b"\xff"],
)
async def test_a_page_of_another_site_is_refused(origin: bytes) -> None:
    status, headers = await ask((b"origin", origin))
    assert status == 403
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        ((b"origin", b"http://guard.example.com:8000"),),
        ((b"origin", b"https://guard.example.com:8000"),),
        ((b"origin", b"https://public.example"), (b"x-forwarded-host", b"public.example")),
        ((b"origin", b"https://app.example.com"),),
    ],
    ids=["own page", "behind TLS", "behind a proxy", "listed"],
)
async def test_own_and_listed_pages_may_ask(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    status, _ = await ask(*headers, origins=("https://app.example.com",))
    assert status == 200


@pytest.mark.parametrize("origin", ["*", "https://*.example.com", "example.com", "https://a.example/x", "https://u@a"])
def test_an_origin_is_one_site(origin: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(cors_origins=[origin])
