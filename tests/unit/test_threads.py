"""Threads of numpy's BLAS: one for each thread that judges, unless somebody says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

VARIABLE = "OPENBLAS_NUM_THREADS"


@pytest.mark.parametrize(("set_to", "seen"), [(None, "1"), ("2", "2")])
def test_blas_has_one_thread_unless_it_is_told(set_to: str | None, seen: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if set_to is not None:
        environment[VARIABLE] = set_to
    told = f"import app, os, sys; assert 'numpy' not in sys.modules; print(os.environ['{VARIABLE}'])"
    result = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == seen
