"""The two ways to find boxes: a pyramid and a head on a base's maps, or a base that is a detector itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from models.artifacts.folder import Artifact
from models.artifacts.parts import BlockWeights, DetectorWeights, EmbeddingWeights
from models.backbones import maps
from models.backbones.detector import DetectorBackbone
from models.backbones.maps import MapLevel
from models.backbones.media import MediaBackbone
from models.learning.contract.errors import NoMaps
from models.learning.detection import material, pyramid
from models.learning.detection.frozen import FrozenViews
from models.learning.detection.model import DetectionModel
from models.learning.detection.network import CHANNELS, Layout
from models.learning.detection.pretrained import PretrainedModel
from models.learning.detection.pyramid import PyramidModel
from models.learning.detection.strategies import PRETRAINED, PYRAMID, Numbers, TrainingConfig
from models.learning.run import Run

_STANDARDISED_ON = 64  # pictures


class Family(Protocol):
    """How models are built on one base; training, judging and publishing are the same for all."""

    behind_head: str  # what `auto` tries once the head is trained
    numbers: Numbers

    @property
    def blocks(self) -> int:
        """Blocks of the base."""

    def join_similar(self, run: Run) -> Run:
        """Return the run with pictures that are alike in one group, where the base can tell. Raises Stopped."""

    def levels(self) -> tuple[MapLevel, ...]:
        """Return the base's maps from which a model may read; () where that is no question."""

    def head(self, levels: Sequence[MapLevel], labels: int, *, seed: int) -> DetectionModel:
        """Return a model of which only the heads train."""

    def prepare(self, model: DetectionModel, views: FrozenViews, *, pictures: int, stop: Callable[[], bool]) -> None:
        """Fit the new head to what it will read, before the first step. Raises Stopped."""

    def base(self, head: DetectionModel, config: TrainingConfig) -> DetectionModel:
        """Return a model that begins as a trained head, and whose base trains as well."""

    def depth(self, head: DetectionModel) -> int:
        """Return how many blocks of the base a model reads, of which a strategy may train some."""

    def read(self, artifact: Artifact) -> DetectionModel:
        """Return the model of an earlier version on the same base. Raises KeyError, ValueError, RuntimeError."""


class PyramidFamily:
    """On a base of convolutions."""

    behind_head = "partial"
    numbers = PYRAMID

    def __init__(self, backbone: MediaBackbone) -> None:
        self._backbone = backbone
        self.blocks = backbone.blocks

    def join_similar(self, run: Run) -> Run:
        """Return the run with pictures in one group whose frozen features are alike."""
        return material.join_similar(run, self._backbone)

    def levels(self) -> tuple[MapLevel, ...]:
        """Return the deepest map of every stride."""
        return maps.levels(self._backbone)

    def head(self, levels: Sequence[MapLevel], labels: int, *, seed: int) -> PyramidModel:
        """Return pyramid and head on the frozen base, drawn by `seed`."""
        model = PyramidModel(self._backbone, Layout(tuple(levels), labels, CHANNELS), first_block=self.blocks)
        model.detector.reset(torch.Generator().manual_seed(seed))
        return model

    def prepare(self, model: Any, views: FrozenViews, *, pictures: int, stop: Callable[[], bool]) -> None:
        """Let the pyramid begin with maps of like sizes."""
        some = [(index, 0) for index in range(min(_STANDARDISED_ON, pictures))]
        pyramid.standardise(model, [view.maps for view in views.read(some, stop=stop)])

    def base(self, head: Any, config: TrainingConfig) -> PyramidModel:
        """Return the trained head on blocks of which the upper ones, or all, train."""
        whole = config.trainable_blocks is None
        first = 0 if config.trainable_blocks is None else self.depth(head) - config.trainable_blocks
        model = PyramidModel(self._backbone, head.detector.layout, first_block=first, embeddings=whole)
        model.begin_with(head.detector.state_dict())
        return model

    def depth(self, head: Any) -> int:
        """Return the depth of the coarsest map: blocks above it are not read."""
        return int(max(head.depths))

    def read(self, artifact: Artifact) -> PyramidModel:
        """Return the version's pyramid and head, with whatever of the base it changed."""
        layout = Layout.of(artifact.manifest.details["detection"])
        blocks, embeddings = artifact.find(BlockWeights), artifact.find(EmbeddingWeights)
        first = min(blocks.states) if blocks is not None else self.blocks
        model = PyramidModel(self._backbone, layout, first_block=first, embeddings=embeddings is not None)
        model.begin_with(artifact.require(DetectorWeights).state)
        for index, state in blocks.states.items() if blocks is not None else ():
            model.encoder.blocks[index].load_state_dict(dict(state))
        if embeddings is not None:
            model.encoder.embeddings.load_state_dict(dict(embeddings.state), strict=False)
        return model


class PretrainedFamily:
    """A base that is a detector: its heads for the customer's labels first, then all of it."""

    behind_head = "full"
    numbers = PRETRAINED

    def __init__(self, backbone: DetectorBackbone) -> None:
        self._backbone = backbone
        self.blocks = backbone.blocks

    def join_similar(self, run: Run) -> Run:
        """Return the run as it is: a detector has no features of whole pictures."""
        return run

    def levels(self) -> tuple[MapLevel, ...]:
        """Return (): it has a pyramid of its own."""
        return ()

    def head(self, levels: Sequence[MapLevel], labels: int, *, seed: int) -> PretrainedModel:  # noqa: ARG002
        """Return the detector with new class heads, of which the heads train."""
        return PretrainedModel(self._backbone, labels, self._backbone.heads, seed=seed)

    def prepare(self, model: DetectionModel, views: FrozenViews, *, pictures: int, stop: Callable[[], bool]) -> None:
        """Do nothing: its heads follow layers that have learned."""

    def base(self, head: Any, config: TrainingConfig) -> PretrainedModel:  # noqa: ARG002
        """Return the detector with the trained heads, all of which trains."""
        model = PretrainedModel(self._backbone, head.labels, self._backbone.trainable)
        model.begin_with(head.trained())
        return model

    def depth(self, head: DetectionModel) -> int:  # noqa: ARG002
        """Return all of its layers."""
        return self.blocks

    def read(self, artifact: Artifact) -> PretrainedModel:
        """Return the version's detector."""
        weights = artifact.require(DetectorWeights).state
        labels = int(artifact.manifest.details["detection"]["labels"])
        model = PretrainedModel(self._backbone, labels, tuple(weights))
        model.begin_with(weights)
        return model


def find(backbone: Any) -> Family:
    """Return how boxes are found on a base. Raises NoMaps for one on which they are not."""
    if isinstance(backbone, DetectorBackbone):
        return PretrainedFamily(backbone)
    if not isinstance(backbone, MediaBackbone) or not maps.levels(backbone):
        raise NoMaps(base=backbone.entry.name)
    return PyramidFamily(backbone)
