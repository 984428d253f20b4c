"""In which number format a base computes where nobody says: by what the processor has, and by what the model does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.backbones.precision import resolve_precision

BF16, FP32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("capabilities", "many_rows", "few_rows"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, BF16, BF16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, FP32, BF16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, BF16, BF16),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, FP32, FP32),
        ({"architecture": "aarch64"}, FP32, FP32),
    ],
)
def test_what_auto_is(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], many_rows: torch.dtype, few_rows: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    device = torch.device("cpu")
    assert resolve_precision("auto", device) is many_rows
    assert resolve_precision("auto", device, few_rows=True) is few_rows
    assert resolve_precision("bf16", device) is BF16
    assert resolve_precision("fp32", device, few_rows=True) is FP32
