"""What a request pays at the gate: `python -m tests.benchmarks.access` prints microseconds of CPU for each way in."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from app.access.control import AccessControl, AccessMode
from app.access.keys import KeyRequest, Peppers, issue
from app.access.limits import UNLIMITED
from app.access.metering import Metering
from app.http.gate import Gate
from app.http.shapes import Shapes
from app.settings import GatewaySettings

ROUNDS: Final = 20_000
KEYS: Final = 10_000
"""Known to the process, as in a large deployment."""
PEPPERS: Final = Peppers([b"pepper-of-32-characters-or-more-1"])


async def passed_on(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(message: Any) -> None:
    pass


async def cost_us(access: AccessControl, headers: list[tuple[bytes, bytes]]) -> float:
    """Return the mean CPU time in microseconds of one request through a gate with nothing behind it."""
    gate = Gate(
        passed_on, access, Metering("0" * 32, UNLIMITED, access.keyring.limits_of), Shapes(GatewaySettings()), 15
    )
    given = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
    started = time.process_time()
    for _ in range(ROUNDS):
        scope = {"type": "http", "method": "POST", "path": "/guard", "client": ("127.0.0.1", 1), "headers": given}
        await gate(scope, no_body, ignore)
    return (time.process_time() - started) / ROUNDS * 1e6


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode())]


async def main() -> None:
    limits: dict[str, Any] = {"rate_per_s": 1e6, "burst": 10**9, "requests_per_day": 10**9}
    plain_token, plain = issue(KeyRequest(name="plain"), PEPPERS, created_by="benchmark")
    limited_token, limited = issue(
        KeyRequest.model_validate({"name": "limited", "limits": limits}), PEPPERS, created_by="benchmark"
    )
    others = [issue(KeyRequest(name="other"), PEPPERS, created_by="benchmark")[1] for _ in range(KEYS)]
    open_access, closed = AccessControl(AccessMode.AUTO, PEPPERS, None), AccessControl(AccessMode.AUTO, PEPPERS, None)
    open_access.replace([])
    closed.replace([plain, limited, *others])
    started = time.process_time()
    for _ in range(ROUNDS):
        closed.keyring.check(plain_token)
    print(f"check of a key        {(time.process_time() - started) / ROUNDS * 1e6:6.1f} us")
    print(f"gate, open            {await cost_us(open_access, []):6.1f} us")
    print(f"gate, key             {await cost_us(closed, bearer(plain_token)):6.1f} us")
    print(f"gate, key with limits {await cost_us(closed, bearer(limited_token)):6.1f} us")
    print(f"gate, wrong key       {await cost_us(closed, bearer('vgk_0123456789ab_' + '0' * 64)):6.1f} us")


if __name__ == "__main__":
    asyncio.run(main())
