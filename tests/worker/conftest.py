from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

STAND_IN = (sys.executable, str(Path(__file__).parent / "stand_in_trainer.py"))


@pytest.fixture
def stand_in() -> tuple[str, str]:
    """The command that starts the small trainer of these tests."""
    return STAND_IN


@pytest.fixture
def until() -> Callable[..., None]:
    """Poll until a condition holds; fail at the deadline."""

    def wait(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.01)

    return wait
