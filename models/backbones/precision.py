"""Device, number format and threads of a frozen base."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Precision = Literal["auto", "fp32", "bf16"]

# Cosine of a vector in bf16 with the one in fp32, from which bf16 is used.
PARITY_COSINE = 0.999


def least_cosine(left_NF: NDArray[np.float32], right_NF: NDArray[np.float32]) -> float:
    """Return the least cosine of two vectors of one row."""
    norms_N = np.linalg.norm(left_NF, axis=1) * np.linalg.norm(right_NF, axis=1)
    return float(((left_NF * right_NF).sum(1) / norms_N).min())


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


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulated bf16 is several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def bf16_is_fast(device: torch.device) -> bool:
    """Return whether a product of many rows takes less time in bfloat16 than in fp32.

    Not on an Intel processor whose AMX is missing or hidden by the hypervisor: with AVX-512 alone the products of an
    encoder took 1.8 times as long as fp32's, and its vectors 1.6 times (decision 0051).
    """
    if device.type == "cuda":
        return has_bf16(device)
    capabilities = torch.cpu.get_capabilities()
    intel = str(capabilities.get("cpu_name", "")).startswith("Intel")
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not intel))


def resolve_precision(precision: str, device: torch.device, *, few_rows: bool = False) -> torch.dtype:
    """Return the number format; `auto` is bf16 where it is fast. Loading checks its parity with fp32.

    `few_rows`: the model computes a few rows at a time, as one that writes does. What counts then is how many bytes its
    weights have, so that bf16 is the faster wherever the hardware has it.
    """
    if precision == "auto":
        precision = "bf16" if (has_bf16 if few_rows else bf16_is_fast)(device) else "fp32"
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
