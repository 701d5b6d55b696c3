"""Vigil Guard: one process that guards LLM traffic.

`uvicorn app:main` finds the ASGI application in the lazy attribute `main`; importing any room starts nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Before numpy is imported: texts are judged in threads, one each, and a BLAS with threads of its own would have them
# wait for each other, at twice the CPU time for a text of 200 words.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:
    from fastapi import FastAPI

    main: FastAPI


def __getattr__(name: str) -> object:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from app.errors import ConfigurationError
    from app.settings import load_settings
    from app.telemetry import processes

    try:
        # Before anything counts: prometheus_client decides when it is first imported where values are kept.
        processes.share(load_settings().state_dir)
        from app.service import create_app

        application = globals()["main"] = create_app()
    except ConfigurationError as error:
        # Whoever wrote the setting reads this: one line, not the web server's stack with the line at its end.
        raise SystemExit(f"vigil: not started: {error.message}") from None
    return application
