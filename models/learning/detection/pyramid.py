"""The network on a base of convolutions: pyramid and head, and of the base the blocks that train with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.artifacts.parts import BlockWeights, DetectorWeights, EmbeddingWeights, Part
from models.backbones.media import MediaBackbone
from models.backbones.stacks import MediaBatch, MediaEncoder
from models.learning.detection import assignment
from models.learning.detection.model import PIXELS
from models.learning.detection.network import Detector, Found, Layout
from models.learning.detection.truth import Truth


class PyramidModel:
    """A detector on a base of which the blocks from `first_block` on are the model's own; see `model.DetectionModel`.

    Below it everything is frozen, so that what is computed of a view up to there can be kept. `values` are the
    parameters that train, by name.
    """

    def __init__(self, backbone: MediaBackbone, layout: Layout, *, first_block: int, embeddings: bool = False) -> None:
        """Build it with the base's weights; the detector's are drawn by `reset`."""
        self.detector = Detector(layout).to(backbone.device)
        self.depths = [level.depth for level in layout.levels]
        self.first_block = min(first_block, max(self.depths))
        self.embeddings_train = embeddings
        self.encoder: MediaEncoder = backbone.encoder
        self.values: dict[str, Tensor] = {f"detector.{name}": each for name, each in self.detector.named_parameters()}
        if self.first_block < max(self.depths):
            self.encoder = backbone.trainable_copy().eval()
            self.encoder.requires_grad_(False)
            for index in range(self.first_block, max(self.depths)):
                self.encoder.blocks[index].requires_grad_(True)
            self.encoder.embeddings.requires_grad_(embeddings)
            trained = {name: each for name, each in self.encoder.named_parameters() if each.requires_grad}
            self.values.update({f"encoder.{name}": each for name, each in trained.items()})

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take a trained detector's weights."""
        self.detector.load_state_dict(dict(weights))

    @property
    def trained_blocks(self) -> int:
        """Blocks of the base that train."""
        return max(self.depths) - self.first_block

    @property
    def frozen_depths(self) -> list[int]:
        """Depths whose maps are the same at every step; [] where the whole base trains."""
        if self.embeddings_train:
            return []
        below = {depth for depth in self.depths if depth <= self.first_block}
        return sorted(below | ({self.first_block} if self.first_block < max(self.depths) else set()))

    def forward(self, frozen: Mapping[int, Tensor]) -> Found:
        """Answer from the maps of `frozen_depths`, (B, C, h, w) by depth; from `PIXELS` where all trains."""
        maps = {depth: each for depth, each in frozen.items() if depth != PIXELS}
        above = [depth for depth in self.depths if depth not in maps]
        if above:
            rows = len(next(iter(frozen.values())))
            values = frozen[PIXELS] if self.embeddings_train else frozen[self.first_block]
            batch = MediaBatch(values, tuple(range(rows + 1)))
            hidden = self.encoder.embed(batch) if self.embeddings_train else values
            start = 0 if self.embeddings_train else self.first_block
            _, tapped = self.encoder.run(batch, hidden, start, max(above), taps=set(above))
            maps.update(tapped)
        found: Found = self.detector([maps[depth] for depth in self.depths])
        return found

    def losses(self, frozen: Mapping[int, Tensor], truth: Truth, *, seed: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the losses of scores and of boxes; nothing is drawn."""
        return assignment.losses(self.forward(frozen), truth)

    def details(self) -> dict[str, Any]:
        """Return the layout."""
        return self.detector.layout.as_details()

    def parts(self) -> tuple[Part, ...]:
        """Return the artifact's parts."""
        parts: list[Part] = [DetectorWeights(_detached(self.detector.state_dict()))]
        if self.first_block < max(self.depths):
            blocks = self.encoder.blocks
            own = range(self.first_block, max(self.depths))
            parts.append(BlockWeights({index: _detached(blocks[index].state_dict()) for index in own}))
        if self.embeddings_train:
            embeddings = self.encoder.embeddings.named_parameters()
            parts.append(EmbeddingWeights({name: each.detach().clone() for name, each in embeddings}))
        return tuple(parts)


def standardise(model: PyramidModel, maps: Sequence[Mapping[int, Tensor]]) -> None:
    """Let the pyramid begin with maps of like sizes, measured on some views."""
    with torch.no_grad():
        mean, deviation = [], []
        for depth in model.depths:
            places_PC = torch.cat([each[depth].float().flatten(1).T for each in maps])
            mean.append(places_PC.mean(0))
            deviation.append(places_PC.std(0).clamp(min=1e-3))
        model.detector.standardise(mean, deviation)


def _detached(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
