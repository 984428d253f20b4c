"""What a training reports between two heartbeats."""

from __future__ import annotations

from typing import Any

from models.learning.contract.events import Progress
from models.services.claims import Event

_MOST_EVENTS = 50  # between two heartbeats: a chart needs no more


class ProgressLog:
    """The latest position, and the events that are not written yet."""

    def __init__(self) -> None:
        self._latest: Progress | None = None
        self.events: list[Event] = []

    @property
    def position(self) -> dict[str, Any]:
        """`step`, `percent` and `seconds_remaining`, as far as they are known."""
        latest = self._latest
        if latest is None:
            return {}
        position = {"step": latest.step, "percent": latest.percent, "seconds_remaining": latest.seconds_remaining}
        return {name: value for name, value in position.items() if value is not None}

    def note(self, progress: Progress) -> None:
        """Take one report of the trainer. A flood of figures is thinned; messages are kept."""
        self._latest = progress
        if progress.metrics:
            data = {**self.position, **progress.metrics}
            self.events.append(("info", "metrics", progress.message or progress.step, data))
        elif progress.message:
            self.events.append(("info", "message", progress.message, self.position))
        if len(self.events) > _MOST_EVENTS:
            oldest = next((index for index, event in enumerate(self.events) if event[1] == "metrics"), 0)
            del self.events[oldest]

    def forget_written(self, count: int) -> None:
        """The first `count` events are in the database."""
        del self.events[:count]
