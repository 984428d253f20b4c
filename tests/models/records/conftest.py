"""Both databases behave alike: every test here runs on each."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Both, or the server that the environment names in place of the embedded one."""
    named = os.environ.get("GRAFT_TEST_DATABASE", "")
    return named if request.param == "postgresql" and "://" in named else request.param
