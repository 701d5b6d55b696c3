"""The rules of the house, enforced: imports point one way, and each outside library has one room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"

ROOMS_OF = {
    "faststream": {"messaging"},
    "nats": {"messaging", "client"},
    "httpx2": {"client"},
    "h11": {"client"},
    "mcp": {"mcp"},
    "mcp_types": {"mcp"},
    "fastapi": {"http"},
    "starlette": {"http"},
    "clickhouse_connect": {"events"},
    "chdb": {"events"},
    "cryptography": {"pii", "messaging"},
    "faker": {"pii"},
    "presidio_analyzer": {"pii"},
    "spacy": {"pii"},
    "opentelemetry": {"telemetry"},
    "prometheus_client": {"telemetry"},
    "typer": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"evaluation"},
    "onnxruntime": {"inference"},
    "tokenizers": {"subwords", "training"},
    "onnx": {"training"},
    "scipy": {"training"},
    "torch": {"training"},
}
"""Which rooms may import a library; `service.py` and `__init__.py` name types of them under TYPE_CHECKING only."""

CORES = ("access", "detection", "pii", "arbiter", "events", "gateways")
EDGES = ("messaging", "http", "service", "cli")
GROUND = (
    *(
        "chat",
        "tool_calls",
        "tool_results",
        "tool_arguments",
        "contracts",
        "admin_contracts",
        "stream_contracts",
        "bounds",
        "log_contracts",
        "topology",
        "errors",
        "identity",
        "secret_files",
        "settings",
        "subwords",
        "inference",
    ),
    "tls",
)


def modules() -> Iterator[tuple[str, Path]]:
    for path in APP.rglob("*.py"):
        parts = path.relative_to(APP).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Return what a module imports when it runs; imports for type checking only do not count."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


ALL = sorted(modules())


@pytest.mark.parametrize(("module", "path"), ALL, ids=[name or "app" for name, _ in ALL])
def test_an_outside_library_is_imported_in_its_room_alone(module: str, path: Path) -> None:
    room = module.partition(".")[0]
    for imported in imports_of(path):
        rooms = ROOMS_OF.get(imported.partition(".")[0])
        assert rooms is None or room in rooms, f"app.{module} imports {imported}"


@pytest.mark.parametrize(("module", "path"), ALL, ids=[name or "app" for name, _ in ALL])
def test_imports_point_from_edges_to_cores_to_contracts(module: str, path: Path) -> None:
    room = module.partition(".")[0]
    for imported in imports_of(path):
        if not imported.startswith("app."):
            continue
        target = imported.split(".")[1]
        if room in CORES or room in GROUND or room in {"validation", "problems", "telemetry", "streaming"}:
            assert target not in EDGES, f"app.{module} imports the edge {imported}"
        if room in GROUND:
            assert target in GROUND, f"app.{module} imports {imported}"
        if room not in {"training", "cli"}:
            assert target != "training", f"app.{module} imports what makes the models, {imported}"
        if room in CORES:
            assert target == room or target not in CORES, f"app.{module} imports another core, {imported}"


@pytest.mark.parametrize("path", sorted((APP / "client").rglob("*.py")), ids=lambda path: path.stem)
def test_the_client_stands_alone(path: Path) -> None:
    """It is installed as `vigil_guard`, beside a caller's own package that may be named `app`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path.name} imports from outside of the client"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not [name for name in names if name.partition(".")[0] == "app"], path.name


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    for module, path in ALL:
        text = path.read_text()
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"app.{module} has no docstring"


def test_importing_a_core_starts_nothing_and_loads_no_model() -> None:
    check = (
        "import sys, threading\n"
        "import app, app.detection.detector, app.pii.engine, app.arbiter.decide, app.events.log\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "early = {'spacy', 'chdb', 'faststream', 'fastapi', 'uvicorn', 'torch', 'scipy'} & set(sys.modules)\n"
        "assert not early, early\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=APP.parent)
