"""The path that middlewares look at is the router's, also under a prefix."""

from __future__ import annotations

import pytest
from starlette._utils import get_route_path

from app.http.paths import route_path


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/x/admin/keys", "/x"),
        ("/x", "/x"),
        ("/xy/z", "/x"),
        ("/guard", ""),
        ("/guard", "/x"),
        ("/health/guard", "/health"),
    ],
)
def test_a_path_is_the_one_that_the_router_looks_at(path: str, root: str) -> None:
    scope = {"type": "http", "path": path, "root_path": root}
    assert route_path(scope) == get_route_path(scope)
