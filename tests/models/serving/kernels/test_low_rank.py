from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.backbones.packed import Overrides
from models.backbones.packed_batch import pool
from models.backbones.text import TextBackbone
from models.serving.adapters.adapter import Adapter
from models.serving.kernels import batched_products
from models.serving.kernels.low_rank import plan_low_rank
from tests.models.serving.conftest import TEXTS, lora_tensors
from tests.models.serving.encoders.test_passes import expected, make


@torch.inference_mode()
def probabilities(
    backbone: TextBackbone, texts: Sequence[str], adapters: Sequence[Adapter], *, by_address: bool
) -> list[NDArray[Any]]:
    """Each text's own head on the mean of the last layer, low-rank products beside the shared blocks."""
    encoder = backbone.packed
    assert encoder is not None
    batch = encoder.pack(backbone.tokenize(texts))
    plan = plan_low_rank([adapters[row] for row in batch.order], batch, by_address=by_address)
    hidden_ND, _ = encoder.run(batch, encoder.embed(batch), 0, backbone.blocks, overrides=Overrides(plan))
    found = []
    for vector_D, adapter in zip(pool(hidden_ND, batch, "mean"), adapters, strict=True):
        assert adapter.weight_KF is not None
        assert adapter.bias_K is not None
        found.append(torch.softmax(adapter.weight_KF @ vector_D + adapter.bias_K, dim=0).cpu().numpy())
    return found


@pytest.mark.parametrize("count", [1, 2, 9, 40])
@pytest.mark.parametrize("by_address", [True, False])
def test_any_number_of_low_rank_adapters(backbone: TextBackbone, count: int, by_address: bool) -> None:
    if by_address and (backbone.device.type != "cpu" or not batched_products.available()):
        pytest.skip("not on a GPU, and not with a torch that brings no cblas_sgemm_batch")
    kinds = [make(backbone, seed=seed, more=lora_tensors(seed)) for seed in range(count)]
    texts = [TEXTS[at % len(TEXTS)] for at in range(3 * count)]
    rows = [kinds[at % count] for at in range(len(texts))]
    mixed = probabilities(backbone, texts, [adapter for adapter, _ in rows], by_address=by_address)
    for at in range(0, len(texts), 7):
        np.testing.assert_allclose(mixed[at], expected(backbone, rows[at][1], [texts[at]])[0], atol=2e-4)
