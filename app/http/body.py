"""How a request's body is read: bounded, and only when it says it is JSON."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import ClientDisconnect

from app.errors import BodyIncomplete, PayloadTooLarge, UnsupportedMediaType


async def read(request: Request, limit_bytes: int) -> bytes:
    """Return the whole body.

    Raises:
        PayloadTooLarge: more than `limit_bytes` were announced or came.
        UnsupportedMediaType: the body says it is something else than JSON, or compressed.
        BodyIncomplete: the caller went away; nobody is there to be told, and the guard did not fail.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(field="content-type")
    refuse_encoded(request)
    too_large = PayloadTooLarge(f"the body may take at most {limit_bytes} bytes", field="body")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit_bytes:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise BodyIncomplete from None
    return b"".join(parts)


def refuse_encoded(request: Request) -> None:
    """Refuse a body that says it is compressed: unpacking it would take work and memory that no limit is told of.

    Raises:
        UnsupportedMediaType: it does.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("the body must not be compressed", field="content-encoding")
