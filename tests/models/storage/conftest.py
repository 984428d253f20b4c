"""Objects behave the same everywhere: every test here runs on a folder and on an S3 server."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["directory", "s3"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Both."""
    return str(request.param)
