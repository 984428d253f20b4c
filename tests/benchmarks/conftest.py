"""What several benchmarks share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from models.backbones import loading, registry
from models.backbones.loading import Backbone
from models.settings import Settings
from tests.benchmarks import public_data, rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    """Base models by name, each loaded once."""
    public_data.folder()
    settings = Settings(base_models_file=rows.write_base_models(tmp_path_factory.mktemp("bases") / "bases.json"))
    return cache(
        lambda name: loading.load(registry.find(settings, name), device=settings.device, precision="auto", threads=0)
    )
