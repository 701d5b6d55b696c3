"""Harmless code and technical prose: passages of the packages that the training's own environment has installed.

What developers paste most is code, and nobody plants orders in a released wheel's. The packages are pinned by the lock
files, so the same environment gives the same passages; none of them is copied into the project.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from app.detection.families import Family
from app.evaluation.documents import passage
from app.training.corpus import Row, digest

CODE_FILE: Final = "packages_code"
PROSE_FILE: Final = "packages_prose"
PACKAGES: Final = (
    "Faker", "PyYAML", "Pygments", "anyio", "click", "clickhouse-connect", "cryptography",
    "fast-depends", "fastapi", "faststream", "fonttools", "graphql-core", "httpcore", "httptools", "httpx",
    "huggingface_hub", "hypothesis", "jinja2", "jsonschema", "langchain-core", "langsmith", "markdown-it-py",
    "matplotlib", "mcp", "mypy", "nats-py", "numpy", "onnx", "onnxruntime", "opentelemetry-api",
    "opentelemetry-sdk", "pandas", "phonenumbers", "pillow", "pip", "presidio_analyzer", "prometheus_client", "pyarrow",
    "pydantic", "pydantic-settings", "pyjwt", "pytest", "pytest-asyncio", "python-dateutil", "requests", "rich",
    "schemathesis", "scipy", "setuptools", "spacy", "srsly", "starlette", "thinc", "torch", "typer", "urllib3",
    "uvicorn", "websockets", "werkzeug", "wrapt",
)  # fmt: skip
FILES_PER_PACKAGE: Final = 60
"""Most files of code that one package gives a passage of, and most docstrings."""
_CODE: Final = frozenset((".py", ".pyi", ".pyx", ".c", ".h", ".hpp", ".js", ".css", ".html", ".json", ".yaml", ".toml"))
_PROSE: Final = frozenset((".md", ".rst", ".txt"))
_FEWEST_WORDS: Final = 40
"""Of a docstring."""
_MOST_BYTES: Final = 400_000


def rows() -> list[Row]:
    """Return passages of the packages that are installed, each package's by itself, in an order of their own."""
    return [row for package in PACKAGES for row in _of_package(package)]


def _of_package(name: str) -> Iterator[Row]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return
    files = [Path(str(file)) for file in distribution.files or ()]
    files = sorted((file for file in files if ".." not in file.parts), key=lambda file: digest(f"{name}:{file}"))
    code = [file for file in files if file.suffix in _CODE and "vendor" not in str(file)]
    for file in code[:FILES_PER_PACKAGE]:
        yield from _row(passage(_text_of(distribution, file), f"{name}:{file}"), CODE_FILE, name)
    prose = [_text_of(distribution, file) for file in files if file.suffix in _PROSE]
    prose.append((distribution.read_text("METADATA") or "").partition("\n\n")[2])
    for number, text in enumerate(prose):
        for part in range(min(4, len(text.split()) // 150)):
            yield from _row(passage(text, f"{name}:prose:{number}:{part}"), PROSE_FILE, name)
    told = 0
    for file in (file for file in code if file.suffix == ".py"):
        docstring = _longest_docstring(_text_of(distribution, file))
        if told < FILES_PER_PACKAGE and len(docstring.split()) >= _FEWEST_WORDS:
            told += 1
            yield from _row(passage(docstring, f"{name}:{file}:docstring"), PROSE_FILE, name)


def _row(text: str | None, file: str, package: str) -> Iterator[Row]:
    if text is not None:
        code = file == CODE_FILE
        yield Row(
            text=text,
            attack=False,
            file=file,
            family=Family.BENIGN_CODE if code else Family.BENIGN_DOCUMENT,
            own=False,
            english=True,
            pair=None,
            held_out=digest(f"held out:{package}") % 10 == 0,
            source=f"package {package}",
            kind="code" if code else "document",
        )


def _text_of(distribution: metadata.Distribution, file: Path) -> str:
    path = Path(str(distribution.locate_file(str(file))))
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= _MOST_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _longest_docstring(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented))
    return max(found, key=len, default="")
