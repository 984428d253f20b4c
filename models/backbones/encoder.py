"""The network under a text backbone: embeddings and a list of blocks, run one by one.

The blocks are those of Hugging Face's own model, so any BERT-like checkpoint works. Only the loop over them is ours: it
lets serving compute a shared prefix once, and training start behind frozen blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.backbones import feature_names, windows
from models.backbones.bert import BertLayer
from models.backbones.feature_names import TEXT_POOLINGS
from models.backbones.padding import Padding
from models.backbones.windows import RowParts

# Tokens of a batch whose activations are kept for the gradients. In batches of more, as of one text in 20 windows, each
# block is computed again when its gradients are (arXiv:1604.06174): a text may be as long as memory would not allow.
_KEPT_TOKENS = 4_608


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Padded token ids on the device. `padded` is known from the lengths, without waiting for the device."""

    ids_BT: Tensor
    mask_BT: Tensor  # bool, True where there is a token
    lengths: NDArray[np.int64]
    types_BT: Tensor | None  # 1 in the second text of a pair, None for single texts
    padded: bool
    layout: RowParts | None = None  # of rows that have several windows, each a row of this batch; None: no such row

    @property
    def attention(self) -> Tensor | None:
        """Return the mask for attention, (B, 1, 1, T), or None if no row is padded.

        Boolean on purpose: measured on AMX, an additive float mask in bf16 made the pass six times slower.
        """
        return self.mask_BT[:, None, None, :] if self.padded else None


class TextEncoder(nn.Module):
    """`embeddings` and `blocks` of a BERT-like model."""

    walk_tokens = 12  # of a text on which its pass is compared with the library's

    def __init__(self, embeddings: nn.Module, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = blocks

    def embed(self, batch: TextBatch) -> Tensor:
        """Return hidden_BTD at depth 0."""
        if batch.types_BT is None:
            hidden_BTD: Tensor = self.embeddings(input_ids=batch.ids_BT)
        else:
            hidden_BTD = self.embeddings(input_ids=batch.ids_BT, token_type_ids=batch.types_BT)
        return hidden_BTD

    def arguments(self, batch: TextBatch, hidden_BTD: Tensor) -> Sequence[tuple[Any, ...]]:  # noqa: ARG002
        """Return what each block takes beside the hidden state: the mask."""
        return [(batch.attention,)] * len(self.blocks)

    def pool(self, hidden_BTD: Tensor, batch: TextBatch, kind: str) -> Tensor:
        """Return one float32 vector per row, (B, D); see the function of this name."""
        return pool(hidden_BTD, batch, kind)

    def run(
        self, batch: TextBatch, hidden_BTD: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run blocks `start` to `stop - 1`; return the end and the tapped depths (d: the state after d blocks)."""
        padding = self._padding(batch) if start < stop else None
        arguments = [(padding,)] * len(self.blocks) if padding else self.arguments(batch, hidden_BTD)
        again = torch.is_grad_enabled() and batch.ids_BT.numel() > _KEPT_TOKENS
        tapped = {start: hidden_BTD} if start in taps else {}
        hidden = padding.remove(hidden_BTD) if padding else hidden_BTD
        for depth in range(start, stop):
            if again:
                block = self.blocks[depth]
                output = checkpoint(block, hidden, *arguments[depth], use_reentrant=False, preserve_rng_state=False)
            else:
                output = self.blocks[depth](hidden, *arguments[depth])
            hidden = output[0] if isinstance(output, tuple) else output
            if depth + 1 in taps:
                tapped[depth + 1] = padding.restore(hidden) if padding else hidden
        return padding.restore(hidden) if padding else hidden, tapped

    def _padding(self, batch: TextBatch) -> Padding | None:
        """Return what our own blocks leave out on a processor, whose time goes with the tokens; None: nothing."""
        if not batch.padded or batch.ids_BT.device.type != "cpu" or not isinstance(self.blocks[0], BertLayer):
            return None
        return Padding.of(batch.lengths, batch.mask_BT)


def pool(hidden_BTD: Tensor, batch: TextBatch, kind: str) -> Tensor:
    """Return one float32 vector per row, (B, D): `mean` or `max` over the real tokens, or the first token (`cls`).

    With `unit_` in front it is scaled to length 1.
    """
    return windows.pool(lambda pooling: _pool(hidden_BTD, batch, pooling), kind, batch.layout)


def _pool(hidden_BTD: Tensor, batch: TextBatch, kind: str) -> Tensor:
    if kind == "cls":
        return hidden_BTD[:, 0].float()
    hidden_BTD = hidden_BTD.float()
    if kind == "mean":
        if not batch.padded:
            return hidden_BTD.mean(1)
        weights_BT = batch.mask_BT.float()
        return torch.einsum("btd,bt->bd", hidden_BTD, weights_BT) / weights_BT.sum(1, keepdim=True)
    if kind == "max":
        if batch.padded:
            hidden_BTD = hidden_BTD.masked_fill(~batch.mask_BT[:, :, None], -torch.inf)
        return hidden_BTD.amax(1)
    raise ValueError(f"unknown pooling '{kind}', known: {', '.join(TEXT_POOLINGS)}")


def parse_feature(name: str) -> tuple[str, int]:
    """Return kind and depth of a text's feature: `"mean.6"` → ("mean", 6). Raises ValueError."""
    feature = feature_names.parse(name)
    if feature.pair or feature.pooling not in TEXT_POOLINGS:
        raise ValueError(f"unknown feature '{name}', expected for example 'mean.6'")
    return feature.kind, feature.depth


def features(encoder: TextEncoder, batch: TextBatch, names: Collection[str]) -> dict[str, Tensor]:
    """Return every named feature of one batch, (B, D) float32 each; no block runs beyond the deepest one asked for."""
    wanted = {name: parse_feature(name) for name in names}
    depths = {depth for _, depth in wanted.values()}
    _, tapped = encoder.run(batch, encoder.embed(batch), 0, max(depths), taps=depths)
    return {name: pool(tapped[depth], batch, kind) for name, (kind, depth) in wanted.items()}
