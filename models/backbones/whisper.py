"""Whisper's encoder: windows of thirty seconds, of which the frames that hold sound are pooled.

The modules are transformers' own; what writes is left out. It was trained on windows of one length, with silence behind
a shorter sound and nothing masked: here, too, every frame sees all 1,500. The frames behind the sound are left out of
the pooling, or a vector would say mostly how long its sound is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.stacks import MediaBatch, MediaEncoder, one_row


class WhisperEncoder(MediaEncoder):
    """An encoder of windows. The hidden state is (P, T, D), a frame for every 20 milliseconds."""

    def pool(self, hidden: Tensor, batch: MediaBatch, kind: str) -> Tensor:
        """Return one float32 vector per row, (B, D), over the filled frames of all its windows."""
        if batch.filled is None:
            return super().pool(hidden, batch, kind)
        filled = [hidden[entry, :frames] for entry, frames in enumerate(batch.filled)]
        vectors = []
        for start, stop in pairwise(batch.starts):
            frames_1TD = torch.cat(filled[start:stop])[None]
            vectors.append(super().pool(frames_1TD, one_row(frames_1TD), kind))
        return torch.cat(vectors)


class Frames(nn.Module):
    """Embeddings: two convolutions over a log-mel spectrogram, the second at every other place, and positions."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv1 = model.conv1
        self.conv2 = model.conv2
        self.positions = model.embed_positions

    def forward(self, spectrogram_PMT: Tensor) -> Tensor:
        """Return (P, T / 2, D)."""
        hidden_PDT = functional.gelu(self.conv2(functional.gelu(self.conv1(spectrogram_PMT))))
        hidden_PTD: Tensor = hidden_PDT.transpose(1, 2) + self.positions.weight
        return hidden_PTD
