from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.services.validation.pool import ValidationPool
from tests.models.neighbours.tables import add_lines


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line per table, for the time of a test."""
    add_lines(monkeypatch)


@pytest.fixture
def validations(tables: None) -> Iterator[ValidationPool]:
    """Readers of these tests alone: those of all others must not know the task."""
    pool = ValidationPool(processes=1, niceness=0)
    yield pool
    pool.close()
