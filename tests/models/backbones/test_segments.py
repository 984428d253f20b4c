"""The GPU's way through a batch, on any device, against the run-by-run way of a processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones.packed_batch import pack, pool
from models.backbones.segments import lay_out
from tests.device import DEVICE

HEADS, WIDTH = 4, 32
LENGTHS = (3, 17, 3, 40, 8, 1, 9, 25, 60, 60)


def by_hand(qkv_TE: torch.Tensor) -> torch.Tensor:
    """Attention of one row, head by head."""
    query, key, value = qkv_TE.view(len(qkv_TE), 3, HEADS, -1).permute(1, 2, 0, 3)
    shares = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1)
    return (shares @ value).transpose(0, 1).reshape(len(qkv_TE), -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_row_attends_to_itself_alone(dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    lengths_B = np.sort(np.array(LENGTHS))
    qkv_NE = torch.randn(int(lengths_B.sum()), 3 * WIDTH, generator=random).to(DEVICE, dtype)
    _, segments = lay_out([], lengths_B, np.arange(len(lengths_B)), torch.device(DEVICE))
    context_ND = segments.attend(qkv_NE, HEADS)
    expected_ND = torch.cat([by_hand(row_TE.float()) for row_TE in qkv_NE.split(lengths_B.tolist())])
    torch.testing.assert_close(context_ND.float(), expected_ND, atol=1e-5 if dtype is torch.float32 else 2e-2, rtol=0)
    assert segments.attend(qkv_NE, HEADS).equal(context_ND)  # what is kept between blocks changes nothing


@pytest.mark.parametrize("kind", ["mean", "max", "cls", "unit_mean"])
def test_pooling_is_that_of_a_processor(kind: str) -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(5, 100, size=length).astype(np.int32) for length in LENGTHS]
    on_cpu = pack(rows)
    hidden_ND = torch.from_numpy(random.standard_normal((on_cpu.tokens, WIDTH)).astype(np.float32))
    order_B = np.array(on_cpu.order)
    (ids_N,), segments = lay_out([on_cpu.ids_N.numpy()], np.array(on_cpu.lengths), order_B, torch.device(DEVICE))
    assert ids_N.tolist() == on_cpu.ids_N.tolist()
    expected_BD = pool(hidden_ND, on_cpu, kind)
    pooled_BD = segments.pool(hidden_ND.to(DEVICE), kind.removeprefix("unit_"))
    if kind.startswith("unit_"):
        pooled_BD = torch.nn.functional.normalize(pooled_BD, dim=1)
    torch.testing.assert_close(pooled_BD.cpu(), expected_BD)
