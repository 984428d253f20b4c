"""Causal attention inside rows that are packed end to end: a token sees those before it in its own row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.backbones.decoder import Attend


def positions(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return each token's place in its row, (N,)."""
    return torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])).to(device)


def attend_within(lengths: Sequence[int]) -> Attend:
    """Return an attention over packed rows of these lengths."""
    ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()

    def attend(block: int, query_NHd: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> Tensor:  # noqa: ARG001
        gathered = []
        for start, end in pairwise(ends):
            query, key, value = (part[start:end].transpose(0, 1)[None] for part in (query_NHd, key_NGd, value_NGd))
            grouped = query_NHd.shape[1] != key_NGd.shape[1]
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
            gathered.append(attended[0].transpose(0, 1))
        return torch.cat(gathered) if len(gathered) > 1 else gathered[0]

    return attend
