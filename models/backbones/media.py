"""Picture and sound base models: decode, encode, pool. Thread-safe once loaded; the weights are never written to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones import feature_names, stacks
from models.backbones import precision as formats
from models.backbones.batches import RowEncoding
from models.backbones.checkpoint import Checkpoint
from models.backbones.errors import UnsupportedBaseModel
from models.backbones.feature_names import MAP_POOLINGS, PATCH_POOLINGS
from models.backbones.stacks import MediaBatch, MediaEncoder
from models.datasets.examples import Media

# The library's own pass and ours run the same modules: they differ by rounding at most.
_WALK_TOLERANCE = 1e-3

_log = structlog.get_logger(__name__)


class Reader(Protocol):
    """Turns encoded media into the network's input. `cost` is that of one entry, in tokens of text."""

    cost: int

    def count(self, media: Media) -> int:
        """Return how many entries of the network's input the media becomes, from its header."""

    def read(self, media: Media) -> MediaBatch:
        """Return one row, its entries (P, …) float32. Raises BadValue for what cannot be decoded."""

    def probes(self) -> MediaBatch:
        """Return generated rows, to compare passes with."""


@runtime_checkable
class PixelReader(Protocol):
    """A reader of pictures, of which every place of the network's input is a place of the picture."""

    def scale(self, pixels_PHW3: NDArray[np.uint8]) -> Tensor:
        """Return pixels as the network's input (P, 3, H, W) float32, in the size that they have."""


@dataclass(frozen=True, slots=True)
class MediaRow:
    """One picture or sound, decoded when its batch is put together: encoded it takes a tenth of the memory."""

    media: Media
    cost: int  # of a pass over it, measured in tokens of text

    def __len__(self) -> int:
        return self.cost


class MediaBackbone(RowEncoding):
    """A frozen encoder of pictures or sounds: shared by all customers, never written to."""

    def __init__(
        self,
        checkpoint: Checkpoint[MediaEncoder],
        reader: Reader,
        encoder: MediaEncoder,
        *,
        threads: int,
        batch_entries: int,
    ) -> None:
        self.entry = checkpoint.entry
        self.encoder = encoder
        self.revision = checkpoint.revision
        self.blocks = len(encoder.blocks)
        self.linear = any(isinstance(module, torch.nn.Linear) for module in encoder.blocks.modules())
        parameter = next(encoder.parameters())
        self.device = parameter.device
        self.dtype = parameter.dtype
        self.threads = threads if self.device.type == "cpu" else 1  # batches that `encode` computes side by side
        self.reader = reader
        self._read = checkpoint.read
        self._batch_entries = batch_entries
        self.widths = self._measure_widths()  # by depth
        self.width = self.widths[-1]

    def tokenize(self, inputs: Sequence[Media]) -> list[MediaRow]:
        """Return one row per input; its length follows from the number of entries, by its header."""
        return [MediaRow(media, self.reader.count(media) * self.reader.cost) for media in inputs]

    def units(self, rows: Sequence[MediaRow]) -> None:
        """Return None: one vector per row."""

    def collate(self, rows: Sequence[MediaRow]) -> MediaBatch:
        """Decode and move to the device."""
        return stacks.join([self.reader.read(row.media) for row in rows]).to(self.device)

    def plan(self, lengths: Sequence[int] | NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return row indices in batches of a few entries; a longer row is a batch of its own."""
        most = self._batch_entries * self.reader.cost
        batches: list[NDArray[np.int64]] = []
        start = held = 0
        for at, length in enumerate(lengths):
            if at > start and held + length > most:
                batches.append(np.arange(start, at))
                start, held = at, 0
            held += int(length)
        if len(lengths) > start:
            batches.append(np.arange(start, len(lengths)))
        return batches

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Return sets of features worth trying; the default first."""
        top, depths = self.blocks, range(self.blocks + 1)
        if not self.encoder.is_map:
            last = (f"cls.{top}", f"mean.{top}") if self.encoder.special else (f"mean.{top}", f"max.{top}")
            return {
                "last": last,
                "depths": tuple(f"mean.{depth}" for depth in depths),
                "depths-last": (*(f"mean.{depth}" for depth in depths[:-1]), *last),
            }
        middle = max(1, (self.blocks + 1) // 2)
        sets: dict[str, tuple[str, ...]] = {
            "last": (f"mean.{top}",),
            "last-max": (f"mean.{top}", f"max.{top}"),
            "depths": tuple(f"mean.{depth}" for depth in depths),
        }
        if self.entry.modality == "audio":
            # Half-way up, the pitch of a sound can still be read from the map: it separates words from each other.
            sets["bands"] = (f"bands.{middle}", f"bands.{middle + 1}")
        return sets

    def probe(self, depth: int) -> str:
        """Return the mean over the positions."""
        return f"mean.{depth}"

    def parse_feature(self, name: str) -> tuple[str, int]:
        """Split `"mean.6"` into ("mean", 6). Raises ValueError."""
        feature = feature_names.find(name)
        known = MAP_POOLINGS if self.encoder.is_map else PATCH_POOLINGS
        if feature is None or feature.pair or feature.pooling not in known or feature.depth > self.blocks:
            raise ValueError(
                f"unknown feature '{name}': {', '.join(known)} of depth 0 to {self.blocks}, as in 'mean.1'"
            )
        return feature.kind, feature.depth

    def feature_width(self, name: str) -> int:
        """Return how many numbers the named feature has."""
        kind, depth = self.parse_feature(name)
        return self.widths[depth] * (stacks.BANDS if kind.endswith("bands") else 1)

    @torch.inference_mode()
    def pool(self, hidden: Tensor, batch: MediaBatch, kind: str) -> Tensor:
        """Pool hidden states into one vector per row, (B, D) float32."""
        return self.encoder.pool(hidden, batch, kind)

    @torch.inference_mode()
    def features(self, batch: MediaBatch, names: Collection[str]) -> dict[str, Tensor]:
        """Return features of one batch, (B, D) float32 each; no block runs beyond the deepest one asked for."""
        wanted = {name: self.parse_feature(name) for name in names}
        depths = {depth for _, depth in wanted.values()}
        _, tapped = self.encoder.run(batch, self.encoder.embed(batch), 0, max(depths), taps=depths)
        return {name: self.encoder.pool(tapped[depth], batch, kind) for name, (kind, depth) in wanted.items()}

    def frozen_features(self, rows: Sequence[MediaRow], names: Collection[str]) -> dict[str, Tensor]:
        """Return features of rows in one pass through the frozen base: (B, D) float32 each."""
        return self.features(self.collate(rows), names)

    def trainable_copy(self) -> MediaEncoder:
        """Return a fresh fp32 encoder with the pretrained weights on the same device; it shares nothing."""
        return self._read().to(self.device).requires_grad_(True).train()

    @torch.inference_mode()
    def _measure_widths(self) -> list[int]:
        probes = self.reader.probes().to(self.device)
        names = [f"mean.{depth}" for depth in range(self.blocks + 1)]
        found = self.features(probes.row(0, probes.values), names)
        return [found[name].shape[1] for name in names]


def assemble(
    checkpoint: Checkpoint[MediaEncoder],
    reader: Reader,
    *,
    device: torch.device,
    precision: str,
    threads: int,
    batch_entries: int,
) -> MediaBackbone:
    """Return the backbone in the precision asked for; fp32 instead of bf16 if their vectors are not alike."""

    def frozen(dtype: torch.dtype) -> MediaBackbone:
        encoder = checkpoint.read().to(device=device, dtype=dtype).requires_grad_(False).eval()
        return MediaBackbone(checkpoint, reader, encoder, threads=threads, batch_entries=batch_entries)

    exact = frozen(torch.float32)
    dtype = formats.resolve_precision(precision, device)
    if dtype is torch.float32:
        return exact
    reduced = frozen(dtype)
    batch, last = reader.probes().to(device), f"mean.{exact.blocks}"
    similarity = torch.nn.functional.cosine_similarity(
        exact.features(batch, [last])[last], reduced.features(batch, [last])[last]
    )
    cosine = float(similarity.min())
    if cosine > formats.PARITY_COSINE:
        _log.info("bf16_parity", base=checkpoint.entry.name, cosine=round(cosine, 6), needed=formats.PARITY_COSINE)
        return reduced
    _log.warning("bf16_without_parity", base=checkpoint.entry.name, cosine=cosine, needed=formats.PARITY_COSINE)
    return exact


@torch.inference_mode()
def check_walk(model: Callable[[Tensor], object], encoder: MediaEncoder, batch: MediaBatch, *, name: str) -> None:
    """Compare our run through the blocks with the model's own; raises UnsupportedBaseModel if they differ."""
    ours, _ = encoder.run(batch, encoder.embed(batch), 0, len(encoder.blocks))
    theirs = getattr(model(batch.values), "last_hidden_state", None)
    scale = 1.0 if theirs is None else float(theirs.abs().max())
    if theirs is None or theirs.shape != ours.shape or float((ours - theirs).abs().max()) > _WALK_TOLERANCE * scale:
        raise UnsupportedBaseModel(name=name, architecture=type(model).__name__)
