"""Resources that the runners of a process share: the processor's worker threads, and bases that are loaded once."""

from __future__ import annotations

import threading

from models.backbones import loading
from models.backbones.backbone import Backbone
from models.backbones.precision import count_threads
from models.backbones.registry import BackboneEntry
from models.settings import Settings


class SharedCompute:
    """Shared resources of one process. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.worker_threads = count_threads(settings.threads)
        # As many passes at a time as there are worker threads, over all engines together.
        self.processor = threading.Semaphore(self.worker_threads)
        self._backbones: dict[str, Backbone] = {}
        self._loading: dict[str, threading.Lock] = {}  # one load at a time of each base

    def backbone(self, entry: BackboneEntry) -> Backbone:
        """Return the frozen base, loaded by the first runner that asks; blocks.

        Raises BaseModelUnreachable and UnsupportedBaseModel.
        """
        with self._loading.setdefault(entry.name, threading.Lock()):
            found = self._backbones.get(entry.name)
            if found is None:
                settings = self.settings
                found = self._backbones[entry.name] = loading.load(
                    entry, device=settings.device, precision=settings.precision, threads=settings.threads
                )
            return found
