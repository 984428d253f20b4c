"""What a base model is to the rest of the house, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones.registry import BackboneEntry

Floats = NDArray[np.float32]


class Row(Protocol):
    """One input, ready to be put into a batch. Its length is what a pass over it costs: tokens, patches of sound."""

    def __len__(self) -> int: ...


class Encoder(Protocol):
    """The network: what comes before the blocks, and the blocks, run one by one. Also an `nn.Module`."""

    embeddings: nn.Module
    blocks: nn.ModuleList

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As `nn.Module.to`."""

    def embed(self, batch: Any) -> Tensor:
        """The hidden state at depth 0."""

    def run(
        self, batch: Any, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Blocks `start` to `stop - 1`; depth d is the state after d blocks. Returns the end and the tapped depths."""

    def pool(self, hidden: Tensor, batch: Any, kind: str) -> Tensor:
        """One float32 vector per row, (B, D)."""


class Backbone(Protocol):
    """A frozen base model, shared by everybody. Features are named `<pooling>.<depth>`, such as `mean.6`."""

    entry: BackboneEntry
    revision: str  # hash of everything that the features depend on
    blocks: int
    width: int  # of `mean.<blocks>`
    device: torch.device
    dtype: torch.dtype
    threads: int
    linear: bool  # whether the blocks have linear layers, beside which low-rank matrices can stand

    def tokenize(self, inputs: Sequence[Any]) -> list[Any]:
        """One Row per input."""

    def units(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """How many vectors each row has; None: one, as it is for everything that is pooled as a whole."""

    def collate(self, rows: Sequence[Any]) -> Any:
        """A batch on the device."""

    def plan(self, lengths: Sequence[int] | NDArray[Any]) -> list[NDArray[np.int64]]:
        """Row indices in batches that are computed fast."""

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Sets of features worth trying, by the name that a customer may ask for; the usual one first."""

    def probe(self, depth: int) -> str:
        """The feature that tells best what a depth is worth by itself."""

    def parse_feature(self, name: str) -> tuple[str, int]:
        """`"mean.6"` → ("mean", 6). Raises ValueError for a pooling or a depth that there is not."""

    def feature_width(self, name: str) -> int:
        """How many numbers the named feature has."""

    def pool(self, hidden: Tensor, batch: Any, kind: str) -> Tensor:
        """(B, D) float32."""

    def encode(
        self,
        inputs: Sequence[Any],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Floats:
        """features_NF float32 in the order of the inputs, the named features side by side."""

    def encode_tokens(self, rows: Sequence[Any], names: Sequence[str]) -> Floats:
        """As `encode`, for rows."""

    def encode_steps(
        self, rows: Sequence[Any], names: Sequence[str], *, stop: Callable[[], bool] | None = None
    ) -> Generator[float, None, Floats]:
        """As `encode` for rows, as a generator: yields the share done after every batch, returns the features."""

    def frozen_features(self, rows: Sequence[Any], names: Collection[str]) -> dict[str, Tensor]:
        """Features of rows in one pass, (B, D) float32 each."""

    def trainable_copy(self) -> Any:
        """A fresh fp32 Encoder with the pretrained weights on the same device; shares nothing with the frozen one."""
