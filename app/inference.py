"""Opens the ONNX models of all rooms in one way."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from app.errors import ModelUnavailable

_AS_REQUESTED: Final = 1
"""onnxruntime's kSameAsRequested: the arena grows by what is missing, and not to twice its size."""
_BY_DEFAULT: Final = -1


def open_session(path: Path) -> Any:
    """Open a model; one thread works on one text, so that texts do not wait for each other.

    Raises:
        ModelUnavailable: the file is missing or damaged.
    """
    # Read when onnxruntime is loaded. Without it the released builds report the machine, the process and the models it
    # opens to their maker, and keep an id of the machine in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime import InferenceSession, SessionOptions

    _share_memory()
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # noqa: BLE001 - what onnxruntime raises has no common base
        raise ModelUnavailable(f"{path.name} cannot be read: {type(failure).__name__}") from None


@cache
def _share_memory() -> None:
    """Give all sessions of the process one arena for what they compute with.

    With an arena each they kept 22 MB more after some load; without any a pass of the tagger takes a twentieth longer.
    """
    from onnxruntime import OrtAllocatorType, OrtArenaCfg, OrtMemoryInfo, OrtMemType, create_and_register_allocator

    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    create_and_register_allocator(memory, OrtArenaCfg(0, _AS_REQUESTED, _BY_DEFAULT, _BY_DEFAULT))
