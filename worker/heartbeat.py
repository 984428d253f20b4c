"""Heartbeats of an attempt: the lease renewed, the trainer's progress written, the customer's request to stop read."""

from __future__ import annotations

import time
from typing import Any

from models.learning.contract.events import Progress
from models.services import claims
from models.services.claims import Claim, NewEvent
from models.services.resources import Resources

_MOST_EVENTS = 50  # between two heartbeats: a chart needs no more


class Heartbeat:
    """Collects progress and writes it with every renewal of the lease."""

    def __init__(self, resources: Resources, claim: Claim) -> None:
        self._resources = resources
        self._claim = claim
        self._interval_s = resources.settings.heartbeat_s
        self._due_at = time.monotonic() + self._interval_s
        self._latest: Progress | None = None
        self._events: list[NewEvent] = []

    def is_due(self, now: float) -> bool:
        """Return whether it is time for the next one."""
        return now >= self._due_at

    def note(self, progress: Progress) -> None:
        """Keep one report of the trainer. A flood of metrics is thinned; messages are kept."""
        self._latest = progress
        if progress.metrics:
            data = {**self._position(), **progress.metrics}
            self._events.append(("info", "metrics", progress.message or progress.step, data))
        elif progress.message:
            self._events.append(("info", "message", progress.message, self._position()))
        if len(self._events) > _MOST_EVENTS:
            oldest = next((index for index, event in enumerate(self._events) if event[1] == "metrics"), 0)
            del self._events[oldest]

    def send(self) -> str | None:
        """Renew the lease and report; return what the customer wants: "cancel", "pause" or None.

        Raises LeaseLost, and Unavailable; what was not written goes with the next one.
        """
        events = list(self._events)
        try:
            stop_requested = claims.heartbeat(self._resources, self._claim, events=events, **self._position())
        finally:
            self._due_at = time.monotonic() + self._interval_s
        del self._events[: len(events)]
        return stop_requested

    def _position(self) -> dict[str, Any]:
        latest = self._latest
        if latest is None:
            return {}
        position = {"step": latest.step, "percent": latest.percent, "seconds_remaining": latest.seconds_remaining}
        return {name: value for name, value in position.items() if value is not None}
