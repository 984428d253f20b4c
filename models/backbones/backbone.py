"""The interface of a base model, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones.registry import BackboneEntry
from models.datasets.windowing import Windowing

Floats = NDArray[np.float32]


class TokenizedInput(Protocol):
    """One input, ready to be put into a batch. Its length is the cost of a pass over it, in tokens of text."""

    def __len__(self) -> int: ...


class Encoder(Protocol):
    """The network: embeddings and blocks, run one by one. Also an `nn.Module`."""

    embeddings: nn.Module
    blocks: nn.ModuleList

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move the weights, as `nn.Module.to` does; return the network."""

    def embed(self, batch: Any) -> Tensor:
        """Return the hidden state at depth 0."""

    def run(
        self, batch: Any, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run blocks `start` to `stop - 1`; return the end and the tapped depths (d: the state after d blocks)."""

    def pool(self, hidden: Tensor, batch: Any, kind: str) -> Tensor:
        """Return one float32 vector per row, (B, D); `kind` as in `feature_names`."""


class Backbone(Protocol):
    """A frozen base model, shared by all customers. Names of features: see `feature_names`."""

    entry: BackboneEntry
    revision: str  # hash of everything that the features depend on
    blocks: int
    width: int  # of `mean.<blocks>`
    device: torch.device
    dtype: torch.dtype
    threads: int
    linear: bool  # whether the blocks have linear layers, to which low-rank matrices can be added
    windowing: Windowing | None  # how texts are read that are longer than the base's longest input

    def with_windowing(self, windowing: Windowing | None) -> Any:
        """Return the same base, its weights shared, that reads long texts so; None: only their beginnings."""

    def tokenize(self, inputs: Sequence[Any]) -> list[Any]:
        """Return one TokenizedInput per input."""

    def units(self, rows: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return how many vectors each row has; None: one, for inputs that are pooled as a whole."""

    def collate(self, rows: Sequence[Any]) -> Any:
        """Return a batch on the device."""

    def plan(self, lengths: Sequence[int] | NDArray[Any]) -> list[NDArray[np.int64]]:
        """Return row indices in batches that are computed fast."""

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Return sets of features worth trying, by the name that a customer may ask for; the default first."""

    def probe(self, depth: int) -> str:
        """Return the feature by which one depth alone is judged."""

    def parse_feature(self, name: str) -> tuple[str, int]:
        """Return kind and depth of a feature: `"mean.6"` → ("mean", 6). Raises ValueError for one of another base."""

    def feature_width(self, name: str) -> int:
        """Return how many numbers the named feature has."""

    def pool(self, hidden: Tensor, batch: Any, kind: str) -> Tensor:
        """Return (B, D) float32."""

    def encode(
        self,
        inputs: Sequence[Any],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Floats:
        """Return features_NF float32 in the order of the inputs, the named features side by side."""

    def encode_tokens(
        self, rows: Sequence[Any], names: Sequence[str], *, stop: Callable[[], bool] | None = None
    ) -> Floats:
        """Return the features of tokenised rows, as `encode` does of inputs."""

    def encode_steps(
        self, rows: Sequence[Any], names: Sequence[str], *, stop: Callable[[], bool] | None = None
    ) -> Generator[float, None, Floats]:
        """Yield the share done after every batch of rows; return the features, as `encode` does."""

    def frozen_features(self, rows: Sequence[Any], names: Collection[str]) -> dict[str, Tensor]:
        """Return features of rows in one pass, (B, D) float32 each."""

    def trainable_copy(self) -> Any:
        """Return a fresh fp32 Encoder with the pretrained weights on the same device; it shares nothing."""
