"""The runner of encoders: one pass through the base for the rows of all customers, and each customer's own head."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import structlog

from models.artifacts.folder import Artifact
from models.backbones.registry import BackboneEntry
from models.datasets import tasks as data_tasks
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.encoders.engine_runner import EngineRunner, start_engine
from models.serving.encoders.requests import Request
from models.serving.inputs import READERS, read_pair
from models.serving.shared_compute import SharedCompute

log = structlog.get_logger(__name__)

# What a hot adapter's own blocks may take beside the adapters: this part of what those may.
MERGED_SHARE = 4


class EncoderRunner(EngineRunner):
    """Implements `runner.Runner` by an engine."""

    @classmethod
    def open(cls, entry: BackboneEntry, shared: SharedCompute) -> EncoderRunner:
        """Load the base and start its engine; blocks. Raises BaseModelUnreachable and UnsupportedBaseModel."""
        backbone, settings = shared.backbone(entry), shared.settings
        engine = start_engine(backbone, shared, merged_bytes=settings.adapter_memory_bytes // MERGED_SHARE)
        log.info("engine.started", base_model=entry.name, device=str(backbone.device), precision=str(backbone.dtype))
        return cls(engine)

    @property
    def base_adapter(self) -> Adapter:
        """An adapter whose output is the L2-normalised mean of the last layer."""
        return self.engine.embedding

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> Adapter:
        """Return the version in memory. Raises ArtifactBroken and DeviceMemoryFull."""
        return assemble(artifact, version, self.engine.backbone)

    def read(self, adapter: Adapter, value: Any, param: str, limits: Limits) -> Input:
        """Return a text, a pair of texts, a picture or a sound; raises InvalidInput and InvalidMedia."""
        if adapter.input_mode == "pair":
            return read_pair(value, param, limits)
        return READERS[data_tasks.TASKS[adapter.task].modality](value, param, limits)

    def submit(self, customer_id: str, adapter: Adapter, inputs: Sequence[Input]) -> Awaitable[Request]:
        """Wait for the outputs of all inputs. Raises QueueFull, DeviceMemoryFull, ShuttingDown."""
        return self.engine.submit(customer_id, adapter, inputs)

    def forget_customer(self, customer_id: str) -> None:
        """Drop the customer's merged adapter."""
        self.engine.hot_adapter_merge.forget(customer_id)

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Drop the version's merged form."""
        self.engine.hot_adapter_merge.forget(customer_id, manifest_sha256)
