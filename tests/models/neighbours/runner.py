"""The toy's runner: all customers' rows through one queue and one thread, each compared with its own model's rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.artifacts.folder import Artifact
from models.artifacts.manifest import UNSCALED
from models.backbones.backbone import Backbone
from models.backbones.registry import BackboneEntry
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.errors import ShuttingDown
from models.serving.fair_queue import FairQueue
from models.serving.inputs import read_text
from models.serving.pass_counts import WAIT_BOUNDS_S, Distribution, PassCounts
from models.serving.shared_compute import SharedCompute
from tests.models.neighbours.rows import NeighbourRows
from tests.models.neighbours.task import Neighbour

BATCH_TOKENS = 256


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourAdapter:
    """One version: its rows."""

    customer_id: str
    task: str
    labels: tuple[str, ...]
    rows: tuple[Neighbour, ...]
    token_sets: tuple[frozenset[int], ...]
    nbytes: int
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, float] = UNSCALED


@dataclass(slots=True, eq=False)
class Request:
    """Inputs of one customer."""

    adapter: NeighbourAdapter
    inputs: Sequence[Input]
    outputs: list[Any]
    answered: asyncio.Future[None]
    left: int
    tokens: int = 0
    truncated: tuple[int, ...] = ()  # whole inputs are compared
    rows: dict[int, Any] = field(default_factory=dict)
    compute_s: float = 0.0

    @property
    def values(self) -> int:
        """One per input."""
        return len(self.outputs)

    def timings_ms(self) -> dict[str, float]:
        """Nothing was measured."""
        return dict.fromkeys(("queue", "tokenize", "compute", "total"), 0.0)


@dataclass(slots=True, eq=False)
class QueuedText:
    """One input that waits."""

    owner: Request
    index: int
    tokens: frozenset[int]
    cost: int


class NeighbourRunner:
    """Implements `models.serving.runner.Runner`."""

    base_adapter = None

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._queue: FairQueue[QueuedText] = FairQueue(quantum=16)
        self._closed = False
        self.passes = 0
        self._thread = threading.Thread(target=self._compute_forever, daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, entry: BackboneEntry, shared: SharedCompute) -> NeighbourRunner:
        """Load the base, whose tokeniser it needs."""
        return cls(shared.backbone(entry))

    @property
    def waiting_rows(self) -> int:
        """Rows that no pass has taken yet."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """It is not known."""
        return False

    @property
    def counts(self) -> PassCounts:
        """Only passes are counted."""
        return PassCounts("neighbours", self.passes, 0, 0, self.waiting_rows, Distribution(WAIT_BOUNDS_S))

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> NeighbourAdapter:
        """Return the version in memory."""
        rows = artifact.require(NeighbourRows)
        texts, labels = rows.texts(), rows.labels_N.tolist()
        return NeighbourAdapter(
            customer_id=version.customer_id,
            task=artifact.manifest.task,
            labels=artifact.manifest.labels,
            rows=tuple(Neighbour(text, label, 0.0) for text, label in zip(texts, labels, strict=True)),
            token_sets=tuple(rows.token_sets()),
            nbytes=sum(tensor.nbytes for tensor in rows.tensors().values()),
        )

    def read(self, adapter: NeighbourAdapter, value: Any, param: str, limits: Limits) -> Input:
        """Return a text; raises InvalidInput."""
        return read_text(value, param, limits)

    async def submit(self, customer_id: str, adapter: NeighbourAdapter, inputs: Sequence[Input]) -> Request:
        """Wait for the outputs of all inputs."""
        if self._closed:
            raise ShuttingDown()
        answered = asyncio.get_running_loop().create_future()
        request = Request(adapter, inputs, [None] * len(inputs), answered, len(inputs))
        found = [frozenset(ids.tolist()) for ids in self._backbone.tokenize(list(inputs))]
        request.tokens = sum(map(len, found))
        self._queue.put(customer_id, [QueuedText(request, at, ids, len(ids)) for at, ids in enumerate(found)])
        await answered
        return request

    def forget_customer(self, customer_id: str) -> None:
        """Nothing is kept beside the adapters."""

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Nothing is kept beside the adapters."""

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        self._queue.close()
        await asyncio.to_thread(self._thread.join)

    def _compute_forever(self) -> None:
        while self._queue.wait():
            self.passes += 1
            for row in self._queue.take(BATCH_TOKENS):
                request = row.owner
                request.outputs[row.index] = _nearest(row.tokens, request.adapter)
                request.left -= 1
                if not request.left:
                    request.answered.get_loop().call_soon_threadsafe(request.answered.set_result, None)


def _nearest(tokens: frozenset[int], adapter: NeighbourAdapter) -> Neighbour:
    """By the share of tokens that both have (Jaccard); the first of equal ones."""
    similarities = [len(tokens & own) / max(len(tokens | own), 1) for own in adapter.token_sets]
    best = max(range(len(similarities)), key=similarities.__getitem__)
    return Neighbour(adapter.rows[best].text, adapter.rows[best].label, similarities[best])
