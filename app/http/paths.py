"""The path of a request as the routes know it, for what looks at paths before or after the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def route_path(scope: Mapping[str, Any]) -> str:
    """Return the path that the router will look at, as Starlette finds it: without the prefix of a mount.

    Under `uvicorn --root-path /vigil` every path begins with that prefix, and none of ours does.
    """
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    if not prefix or not path.startswith(prefix):
        return path
    rest = path[len(prefix) :]
    return rest if not rest or rest.startswith("/") else path
