"""Vigil Guard: one process that guards LLM traffic.

`uvicorn app:main` finds the ASGI application in the lazy attribute `main`; importing any room starts nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Before numpy is imported: texts are judged in threads, one each, and a BLAS with threads of its own would have them
# wait for each other, at twice the CPU time for a text of 200 words.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.errors import ConfigurationError

    main: FastAPI

_STARTUP_FAILURE = 3
"""Exit status by which a worker tells uvicorn's parent that the next one would fail as well (uvicorn 0.54,
`config.STARTUP_FAILURE`): the parent then ends the others and itself."""


def _reason_of(error: ConfigurationError | OSError) -> str:
    if not isinstance(error, OSError):
        return error.message
    named = f"{error.filename}: " if error.filename else ""
    return f"{named}{error.strerror or type(error).__name__}"


def __getattr__(name: str) -> object:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import multiprocessing

    from app.errors import ConfigurationError
    from app.settings import load_settings
    from app.telemetry import processes

    try:
        # Before anything counts: prometheus_client decides when it is first imported where values are kept.
        processes.share(load_settings().state_dir)
        from app.service import create_app

        application = globals()["main"] = create_app()
    except (ConfigurationError, OSError) as error:
        # Whoever wrote the setting reads this: one line, not the web server's stack with the line at its end.
        said = f"vigil: not started: {_reason_of(error)}"
        if multiprocessing.parent_process() is None:
            raise SystemExit(said) from None
        # uvicorn's parent starts every worker again that ends otherwise, for ever.
        print(said, file=sys.stderr, flush=True)  # noqa: T201 - where SystemExit writes
        raise SystemExit(_STARTUP_FAILURE) from None
    return application
