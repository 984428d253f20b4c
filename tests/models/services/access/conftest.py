from __future__ import annotations

import pytest


@pytest.fixture
def database_kind() -> str:
    """The cache's rules are the same over every database."""
    return "sqlite"
