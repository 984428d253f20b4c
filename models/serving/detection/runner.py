"""The runner of models that find boxes: the queue, the threads and the passes are those of encoders."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, cast

import structlog

from models.artifacts.folder import Artifact
from models.backbones.detector import DetectorBackbone
from models.backbones.errors import UnsupportedBaseModel
from models.backbones.maps import PictureBase
from models.backbones.media import MediaBackbone
from models.backbones.registry import BackboneEntry
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.detection.adapter import DetectionAdapter
from models.serving.detection.assembly import assemble
from models.serving.detection.passes import answer, tokenize
from models.serving.encoders.engine import Engine
from models.serving.encoders.engine_parts import EngineParts
from models.serving.encoders.engine_runner import EngineRunner, start_engine
from models.serving.encoders.requests import Request
from models.serving.inputs import read_image
from models.serving.shared_compute import SharedCompute

log = structlog.get_logger(__name__)


class DetectionRunner(EngineRunner):
    """Implements `runner.Runner` by an engine that computes `passes`."""

    base_adapter = None  # boxes are a version's; a base alone finds none

    def __init__(self, engine: Engine, backbone: PictureBase) -> None:
        super().__init__(engine)
        self.backbone = backbone

    @classmethod
    def open(cls, entry: BackboneEntry, shared: SharedCompute) -> DetectionRunner:
        """Load the base and start its engine; blocks. Raises BaseModelUnreachable, UnsupportedBaseModel and
        UnsupportedDetector.
        """
        backbone = shared.backbone(entry)
        base: Any = backbone
        if not isinstance(base, MediaBackbone | DetectorBackbone):
            raise UnsupportedBaseModel(name=entry.name, architecture=type(base).__name__)
        # An engine asks of adapters only what a `DetectionAdapter` has as well.
        parts = EngineParts(answer=cast("Any", answer), tokenize=tokenize)
        engine = start_engine(backbone, shared, parts=parts)
        log.info("engine.started", base_model=entry.name, device=str(backbone.device), learner="detection")
        return cls(engine, base)

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> DetectionAdapter:
        """Return the version in memory. Raises ArtifactBroken and DeviceMemoryFull."""
        return assemble(artifact, version, self.backbone)

    def read(self, adapter: DetectionAdapter, value: Any, param: str, limits: Limits) -> Input:  # noqa: ARG002
        """Return a picture; raises InvalidMedia."""
        return read_image(value, param, limits)

    def submit(self, customer_id: str, adapter: DetectionAdapter, inputs: Sequence[Input]) -> Awaitable[Request]:
        """Wait for the boxes of all pictures. Raises QueueFull, DeviceMemoryFull, ShuttingDown."""
        return self.engine.submit(customer_id, cast("Any", adapter), inputs)

    def forget_customer(self, customer_id: str) -> None:
        """Nothing is kept beside the adapters."""

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Nothing is kept beside the adapters."""
