"""A short run of the fault benchmark: faults in a seeded order, and the books in order afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_job_is_lost_doubled_or_billed_twice_under_random_faults(tmp_path: Path) -> None:
    # No freezes: each lasts 45 s. tests/e2e/test_crashes.py has them.
    command = [sys.executable, "-m", "tests.benchmarks.faults", "--jobs", "16", "--gap", "5", "--seconds", "60"]
    command += ["--database", "sqlite", "--without", "freeze worker,freeze trainer", "--results", str(tmp_path)]
    done = subprocess.run(
        command, cwd=_ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| lost, or failed for no reason | 0 | 0 |" in done.stdout
    assert "| billed twice, in vain or not at all | 0 | 0 |" in done.stdout
