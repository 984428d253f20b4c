from __future__ import annotations

import pytest

from models.backbones.text import TextBackbone


@pytest.fixture(scope="session")
def backbone(small_backbone: TextBackbone) -> TextBackbone:
    return small_backbone
