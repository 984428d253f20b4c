"""ModernBERT: blocks that are told where their tokens are, and most of which see only what is near.

The modules are transformers' own. Positions are rotations of queries and keys, by angles that come from outside a
block; two blocks in three attend to the tokens within half a window on either side, the others to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.encoder import TextBatch, TextEncoder

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"  # as the configuration names them


class RotaryTextEncoder(TextEncoder):
    """`embeddings` and `blocks` of a ModernBERT."""

    def __init__(self, model: Any) -> None:
        layers = list(model.layers)
        for layer in layers:  # a number there, not a module: fine-tuning could not turn it off
            layer.attn.attention_dropout = 0.0
        super().__init__(model.embeddings, nn.ModuleList([*layers[:-1], _Last(layers[-1], model.final_norm)]))
        # In a list: angles are no weights. In bf16 those of far tokens would be wrong by whole turns.
        self._rotary = [model.rotary_emb]
        self._kinds: tuple[str, ...] = tuple(model.config.layer_types)
        self._reach = int(model.config.sliding_window)
        # Beyond what one block sees, and half of it padded.
        self.walk_tokens = min(2 * self._reach + 8, int(model.config.max_position_embeddings))

    def arguments(self, batch: TextBatch, hidden_BTD: Tensor) -> Sequence[tuple[Any, ...]]:
        """Return each block's mask and the cosines and sines of its angles, (1, T, d) each."""
        places_1T = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device)[None]
        rotary = self._rotary[0].to(hidden_BTD.device)
        angles = {kind: rotary(hidden_BTD, places_1T, kind) for kind in set(self._kinds)}
        masks = {_GLOBAL: batch.attention, _LOCAL: self._near(batch, places_1T)}
        return [(masks[kind], angles[kind]) for kind in self._kinds]

    def _near(self, batch: TextBatch, places_1T: Tensor) -> Tensor | None:
        """Return where a token may look, (B or 1, 1, T, T); None: everywhere."""
        attention = batch.attention
        if attention is None and places_1T.shape[1] <= self._reach + 1:
            return None
        distance_TT = (places_1T - places_1T.T).abs()
        near = (distance_TT <= self._reach)[None, None]
        # Padding far from any token sees itself: nothing at all would be no number, and spread.
        return near if attention is None else (near & attention) | (distance_TT == 0)


class _Last(nn.Module):
    """The last layer and the norm behind it."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.norm = norm

    def forward(self, hidden_BTD: Tensor, mask: Tensor | None, angles: tuple[Tensor, Tensor]) -> Tensor:
        hidden: Tensor = self.norm(self.layer(hidden_BTD, mask, angles))
        return hidden


def find(model: Any) -> TextEncoder | None:
    """Return the encoder inside a ModernBERT of transformers, None for another network."""
    return RotaryTextEncoder(model) if getattr(model.config, "model_type", "") == "modernbert" else None
