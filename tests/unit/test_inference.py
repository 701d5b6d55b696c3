"""Shows that opening a model tells nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "app" / "detection" / "models" / "encoder.onnx"


def test_the_runtime_of_the_models_reports_to_nobody(tmp_path: Path) -> None:
    """What it would send lies in the home folder first, with an id of the machine."""
    opening = "import sys, pathlib; from app.inference import open_session; open_session(pathlib.Path(sys.argv[1]))"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run(
        [sys.executable, "-c", opening, str(MODEL)],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
