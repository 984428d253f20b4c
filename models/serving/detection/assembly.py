"""Assembly of a version that finds boxes, from its artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from models.artifacts.folder import Artifact
from models.artifacts.parts import BlockWeights, DetectorWeights, EmbeddingWeights
from models.backbones import maps
from models.backbones.detector import DetectorBackbone
from models.backbones.maps import PictureBase
from models.backbones.media import MediaBackbone
from models.backbones.stacks import MediaEncoder
from models.learning.detection import pretrained
from models.learning.detection.canvas import Canvas
from models.learning.detection.model import PIXELS
from models.learning.detection.network import Detector, Layout, ScoredBoxes
from models.services.catalog import ResolvedVersion
from models.serving.adapters.fitting import fitting
from models.serving.detection.adapter import OVERHEAD_BYTES, PRETRAINED_OVERHEAD_BYTES, DetectionAdapter


@dataclass(frozen=True, slots=True)
class _Networks:
    depths: tuple[int, ...]
    detector: Callable[[Sequence[Tensor]], ScoredBoxes]
    network: MediaEncoder | None
    nbytes: int


def assemble(artifact: Artifact, version: ResolvedVersion, backbone: PictureBase) -> DetectionAdapter:
    """Return the adapter. Raises ArtifactBroken for parts that do not fit this base, and DeviceMemoryFull."""
    with fitting(artifact, version, backbone.revision):
        return _assemble(artifact, version, backbone)


def _assemble(artifact: Artifact, version: ResolvedVersion, backbone: PictureBase) -> DetectionAdapter:
    manifest = artifact.manifest
    details = manifest.details["detection"]
    if isinstance(backbone, DetectorBackbone):
        found = _pretrained(artifact, details, backbone)
    else:
        found = _on_maps(artifact, details, backbone)
    return DetectionAdapter(
        task=manifest.task,
        customer_id=version.customer_id,
        labels=manifest.labels,
        thresholds=manifest.thresholds or (),
        canvas=Canvas(*map(int, details["canvas"])),
        depths=found.depths,
        detector=found.detector,
        network=found.network,
        nbytes=found.nbytes,
    )


def _on_maps(artifact: Artifact, details: Mapping[str, Any], backbone: MediaBackbone) -> _Networks:
    layout = Layout.of(details)
    known = set(maps.levels(backbone))
    if not known.issuperset(layout.levels) or layout.labels != len(artifact.manifest.labels):
        raise ValueError("its maps are not those of the base, or its outputs not those of its labels")
    detector = Detector(layout)
    detector.load_state_dict(dict(artifact.require(DetectorWeights).state))
    detector.to(backbone.device).requires_grad_(False).eval()
    network = _own_network(artifact, backbone)
    tensors = [*detector.state_dict().values(), *(network.state_dict().values() if network is not None else ())]
    depths = tuple(level.depth for level in layout.levels)
    return _Networks(depths, detector, network, OVERHEAD_BYTES + sum(tensor.nbytes for tensor in tensors))


def _pretrained(artifact: Artifact, details: Mapping[str, Any], backbone: DetectorBackbone) -> _Networks:
    """Return a network of its own that shares with the base whatever did not train."""
    labels, weights = len(artifact.manifest.labels), artifact.require(DetectorWeights).state
    if int(details["labels"]) != labels:
        raise ValueError("its outputs are not those of its labels")
    network = pretrained.restore(backbone, labels, weights)

    def find(pixels: Sequence[Tensor]) -> ScoredBoxes:
        return pretrained.answer(network, pixels[0])

    bytes_ = PRETRAINED_OVERHEAD_BYTES + sum(tensor.nbytes for tensor in weights.values())
    return _Networks((PIXELS,), find, None, bytes_)


def _own_network(artifact: Artifact, backbone: MediaBackbone) -> MediaEncoder | None:
    """Return the base with the blocks of the version, in fp32 as they were trained; None if it has none."""
    blocks, embeddings = artifact.find(BlockWeights), artifact.find(EmbeddingWeights)
    if blocks is None and embeddings is None:
        return None
    network = backbone.trainable_copy().requires_grad_(False).eval()
    state: dict[str, Any] = network.state_dict()
    for index, own in blocks.states.items() if blocks else ():
        for name, tensor in own.items():
            state[f"blocks.{index}.{name}"].copy_(tensor)
    for name, tensor in embeddings.state.items() if embeddings else ():
        state[f"embeddings.{name}"].copy_(tensor)
    return network
