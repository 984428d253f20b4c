"""The networks under picture and sound backbones: embeddings and a list of blocks, and what goes through them.

`architectures` finds them in Hugging Face's own models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from models.backbones import feature_names

BANDS = 4


@dataclass(frozen=True, slots=True)
class MediaBatch:
    """Entries of the network's input, (P, …), and their rows: row r has the entries `starts[r]` to the next start.

    A picture is one entry; a sound is one for every patch of it.
    """

    values: Tensor
    starts: tuple[int, ...]  # rows + 1 of them
    # Of each entry the places that are pooled, from the first on: what is behind them is padding. None: all places.
    filled: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    def to(self, device: torch.device) -> MediaBatch:
        """Return the batch on the device."""
        return replace(self, values=self.values.to(device))

    def row(self, at: int, values: Tensor) -> MediaBatch:
        """Return row `at` by itself, its entries a copy of its own among `values`, such as hidden states."""
        entries = slice(self.starts[at], self.starts[at + 1])
        filled = None if self.filled is None else self.filled[entries]
        return MediaBatch(values[entries].clone(), (0, entries.stop - entries.start), filled)


def one_row(values: Tensor, filled: tuple[int, ...] | None = None) -> MediaBatch:
    """Return entries that are all of one row."""
    return MediaBatch(values, (0, len(values)), filled)


def join(batches: Sequence[MediaBatch]) -> MediaBatch:
    """Return the rows of batches of one kind, one after the other."""
    counts = [batch.starts[at + 1] - batch.starts[at] for batch in batches for at in range(batch.rows)]
    filled = [count for batch in batches for count in batch.filled or ()]
    return MediaBatch(
        torch.cat([batch.values for batch in batches]), tuple(accumulate(counts, initial=0)), tuple(filled) or None
    )


class MediaEncoder(nn.Module):
    """`embeddings` and `blocks`. The hidden state is maps (P, C, H, W) or tokens (P, T, D), by `is_map`.

    Normalisation layers with running statistics never leave eval mode: small data sets spoil them, and converted
    checkpoints carry placeholders.
    """

    def __init__(self, embeddings: nn.Module, blocks: Sequence[nn.Module], *, is_map: bool, special: int = 0) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = nn.ModuleList(blocks)
        self.is_map = is_map
        self.special = special  # tokens in front that are of no place
        if is_map:
            # Channels beside each other: convolutions of a few pictures take two thirds of the time on a processor.
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub

    def embed(self, batch: MediaBatch) -> Tensor:
        """Return the hidden state at depth 0."""
        hidden: Tensor = self.embeddings(batch.values.to(next(self.parameters()).dtype))
        return hidden

    def run(
        self, batch: MediaBatch, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run blocks `start` to `stop - 1`; return the end and the tapped depths (d: the state after d blocks)."""
        del batch
        tapped = {start: hidden} if start in taps else {}
        for depth in range(start, stop):
            hidden = self.blocks[depth](hidden)
            if depth + 1 in taps:
                tapped[depth + 1] = hidden
        return hidden, tapped

    def pool(self, hidden: Tensor, batch: MediaBatch, kind: str) -> Tensor:
        """Return one float32 vector per row; see the function of this name. `unit_` in front: scaled to length 1."""
        unit, pooling = feature_names.split_unit(kind)
        pooled_BD = pool(hidden, batch, pooling, is_map=self.is_map, special=self.special)
        return nn.functional.normalize(pooled_BD, dim=1) if unit else pooled_BD

    def train(self, mode: bool = True) -> MediaEncoder:
        """Set the mode of all modules but normalisation layers with running statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def pool(hidden: Tensor, batch: MediaBatch, kind: str, *, is_map: bool, special: int) -> Tensor:
    """Return one float32 vector per row. All places of all its patches count alike.

    `mean`, `max` and `std` over places; `bands`: the mean in each quarter of a map's last axis, which for a sound is
    the pitch; `cls`: the first token.
    """
    hidden = hidden.float()
    if kind == "cls":
        return _per_row(hidden[:, 0], batch, torch.mean)
    if kind == "bands":
        quarters_PCQ = nn.functional.adaptive_avg_pool2d(hidden, (1, BANDS)).flatten(1)
        return _per_row(quarters_PCQ, batch, torch.mean)
    places_PLC = hidden.flatten(2).transpose(1, 2) if is_map else hidden[:, special:]
    if kind == "max":
        return _per_row(places_PLC.amax(1), batch, torch.amax)
    mean_BC = _per_row(places_PLC.mean(1), batch, torch.mean)
    if kind == "mean":
        return mean_BC
    square_BC = _per_row(places_PLC.square().mean(1), batch, torch.mean)
    return (square_BC - mean_BC.square()).clamp(min=0).sqrt()


def _per_row(vectors_PC: Tensor, batch: MediaBatch, reduce: Callable[..., Tensor]) -> Tensor:
    if batch.rows == len(vectors_PC):
        return vectors_PC
    spans = zip(batch.starts[:-1], batch.starts[1:], strict=True)
    return torch.stack([reduce(vectors_PC[start:end], 0) for start, end in spans])
