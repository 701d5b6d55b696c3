"""Opens the ONNX models of all rooms in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.errors import ModelUnavailable


def open_session(path: Path) -> Any:
    """Open a model; one thread works on one text, so that texts do not wait for each other.

    Raises:
        ModelUnavailable: the file is missing or damaged.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Each session would keep an arena of its own, as large as the longest text needed: 30 MB in all after some load.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as failure:  # noqa: BLE001 - what onnxruntime raises has no common base
        raise ModelUnavailable(f"{path.name} cannot be read: {type(failure).__name__}") from None
