"""The interface between the predictor and a kind of model, whichever learner trained it.

A runner passes the rows of many customers through one base. It defines what of a version is kept in memory, what an
input is, and how outputs are computed. Answers are decoded from outputs by the task alone (see `decoding`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from models.artifacts.folder import Artifact
from models.backbones.registry import BackboneEntry
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.adapters.cache import CachedAdapter
from models.serving.pass_counts import PassCounts
from models.serving.shared_compute import SharedCompute


class ServedAdapter(CachedAdapter, Protocol):
    """One version of one customer's model in memory."""

    @property
    def task(self) -> str:
        """Name of the task, as in the version's job."""

    @property
    def labels(self) -> Sequence[str]:
        """All labels, in the order of the outputs; empty where outputs are not labels."""

    @property
    def thresholds(self) -> Sequence[float]:
        """Values beside the outputs that decisions need; empty where the task needs none."""

    @property
    def scale(self) -> tuple[float, float]:
        """(offset, factor) from outputs to values in the customer's own unit; (0, 1) where outputs are no values."""


class Answered(Protocol):
    """A request whose inputs all have an output."""

    @property
    def inputs(self) -> Sequence[Input]:
        """Inputs in the order in which they were submitted."""

    @property
    def outputs(self) -> Sequence[Any]:
        """Outputs, one per input; the task decodes them."""

    @property
    def rows(self) -> Mapping[int, Any]:
        """Inputs as the base encoded them, by their index, where decoding needs that."""

    @property
    def values(self) -> int:
        """Number of values in the outputs, on which the cost of decoding depends."""

    @property
    def truncated(self) -> Sequence[int]:
        """Indices of the inputs that are not read to their end."""

    @property
    def tokens(self) -> int:
        """Number of tokens that were read; for pictures and sounds, what they cost in tokens."""

    @property
    def compute_s(self) -> float:
        """The request's share of the engine's time."""

    def timings_ms(self) -> dict[str, float]:
        """Return how long each step took: `queue`, `tokenize`, `compute`, `total`."""


AdapterT = TypeVar("AdapterT", bound=ServedAdapter)


class Runner(Protocol[AdapterT]):
    """Answers the rows of all customers of one base. `submit` belongs to one event loop; `close` at the end."""

    @property
    def base_adapter(self) -> AdapterT | None:
        """The adapter of no customer, whose outputs are embeddings by the base alone; None if the base has none."""

    @property
    def waiting_rows(self) -> int:
        """Number of rows that no pass has taken yet."""

    @property
    def alive(self) -> bool:
        """Whether what computes still runs: if not, rows would wait for ever, and the process is not ready."""

    @property
    def busy(self) -> bool:
        """True while anything is computed."""

    @property
    def counts(self) -> PassCounts:
        """Counts of what it has computed so far, for the operator's metrics."""

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> AdapterT:
        """Return the version in memory, ready to compute; called on a loader's thread, blocks.

        Raises ArtifactBroken for files that do not fit, and DeviceMemoryFull.
        """

    def read(self, adapter: AdapterT, value: Any, param: str, limits: Limits) -> Input:
        """Return an input from a JSON value or an uploaded file; raises InvalidInput, its `param` as given."""

    def submit(self, customer_id: str, adapter: AdapterT, inputs: Sequence[Input]) -> Awaitable[Answered]:
        """Wait for the outputs of all inputs. Raises QueueFull, DeviceMemoryFull, ShuttingDown.

        A caller that is cancelled leaves the queue.
        """

    def forget_customer(self, customer_id: str) -> None:
        """Drop whatever is kept of a deleted customer beside its adapters."""

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Drop whatever is kept of a deleted version beside its adapter."""

    async def close(self) -> None:
        """Answer what waits, then stop."""


# Loads the base and starts the runner on it; blocks. Raises BaseModelUnreachable and UnsupportedBaseModel.
OpenRunner = Callable[[BackboneEntry, SharedCompute], Runner[Any]]
