from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from models.backbones import loading, registry
from models.backbones.text import TextBackbone
from tests.device import DEVICE


@pytest.fixture(scope="session")
def backbone() -> TextBackbone:
    return loading.load(registry.MINILM, device=DEVICE, threads=1)


@pytest.fixture(scope="session")
def exact_backbone() -> TextBackbone:
    return loading.load(registry.MINILM, device=DEVICE, precision="fp32", threads=1)
