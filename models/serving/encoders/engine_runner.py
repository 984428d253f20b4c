"""What every runner is that computes by an `Engine`: how it is opened, what it says of itself, how it ends."""

from __future__ import annotations

from models.backbones.loading import Backbone
from models.serving.encoders.engine import Engine
from models.serving.encoders.engine_parts import EngineLimits, EngineParts
from models.serving.pass_counts import PassCounts
from models.serving.shared_compute import SharedCompute


class EngineRunner:
    """The part of `runner.Runner` that an engine answers for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def waiting_rows(self) -> int:
        """Number of rows that no pass has taken yet."""
        return self.engine.waiting_rows

    @property
    def alive(self) -> bool:
        """Whether every thread of the engine runs."""
        return self.engine.alive

    @property
    def busy(self) -> bool:
        """True while a pass runs."""
        return self.engine.busy

    @property
    def counts(self) -> PassCounts:
        """Counts of what it has computed so far."""
        return self.engine.counts

    async def close(self) -> None:
        """Answer what waits, then stop."""
        await self.engine.close()


def start_engine(
    backbone: Backbone, shared: SharedCompute, *, merged_bytes: int = 0, parts: EngineParts | None = None
) -> Engine:
    """Return a running engine on a base, within the settings' limits; `merged_bytes` as in `EngineLimits`."""
    on_cpu, settings = backbone.device.type == "cpu", shared.settings
    limits = EngineLimits(
        batch_tokens=settings.batch_tokens,
        queue_per_customer=settings.queue_per_customer,
        worker_threads=shared.worker_threads if on_cpu else 1,
        merged_bytes=merged_bytes,
    )
    engine = Engine(backbone, limits, device=shared.processor if on_cpu else None, parts=parts)
    engine.start()
    return engine
