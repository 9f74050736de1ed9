"""Run a program in a process that has imported nothing, as a user's does."""

import os
import subprocess
import sys
from pathlib import Path

from bounded_processes import run_bounded

REPOSITORY = Path(__file__).resolve().parents[1]


def run_fresh(program: str, *arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run a Python program with this repository's package; it must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = run_bounded(command, timeout=300, cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return result
