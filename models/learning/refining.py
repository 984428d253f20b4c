"""Whether to refine the first version, and how: the strategies beyond the head."""

from __future__ import annotations

from collections.abc import Iterator

from models.learning.events import TrainEvent
from models.learning.first_version import FirstVersion
from models.learning.run import Run


def refine(run: Run, first: FirstVersion) -> Iterator[TrainEvent]:
    """Candidates beyond the first version."""
    del run, first
    yield from ()
