"""Both databases behave alike: every test here runs on each."""

from __future__ import annotations

import pytest

from tests.conftest import NAMED_DATABASE


@pytest.fixture(params=NAMED_DATABASE or ["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Both, or the one that the environment names."""
    return str(request.param)
