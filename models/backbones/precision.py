"""Device, number format and threads of a frozen base."""

from __future__ import annotations

import os
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def resolve_device(device: str) -> torch.device:
    """Return the device; `auto` is the first GPU if there is one, else the processor."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def use_exact_convolutions() -> None:
    """Let fp32 mean fp32 on a GPU, too: by default its convolutions round their inputs to 10 bits (TF32).

    Features then differ by 2e-4 with the other pictures of a batch.
    """
    torch.backends.cudnn.allow_tf32 = False


def bf16_is_fast(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulated bf16 is several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format; `auto` is bf16 where it is fast. Loading checks its parity with fp32."""
    if precision == "auto":
        precision = "bf16" if bf16_is_fast(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def count_threads(threads: int) -> int:
    """Return how many compute threads this process may have: `threads`, or for 0 one per core."""
    if threads > 0:
        return threads
    # A deliberate OMP_NUM_THREADS counts: two OpenMP threads against a busy core ran six times slower than one.
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or _cores()


def use_threads(threads: int) -> int:
    """Give torch `threads` compute threads (0: one per core this process may use) and return how many it has."""
    threads = count_threads(threads)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
