"""Reports of a run whose slow parts yield nothing for a while: whoever asks whether to stop is at work.

A worker takes a trainer that reports nothing for long for one that hangs. Fitting a head to 20,000 rows of 500 classes
is silent for minutes, and asks `stop` at every pass over the rows all the while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

from models.learning.contract.events import Progress

EventT = TypeVar("EventT")

# Far below the silence after which a worker gives a trainer up (`stall_timeout_s`), far above what an event costs.
EVERY_S = 10.0


class Activity:
    """Callable that returns whether a run has to stop. It counts the calls: each is a sign of work."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._abandoned = False
        self.signs = 0

    def __call__(self) -> bool:
        """Return whether the caller asked for the end, or no longer takes events."""
        self.signs += 1
        return self._abandoned or self._stop()

    def abandon(self) -> None:
        """Make whatever asks next stop."""
        self._abandoned = True


def report(steps: Iterator[EventT], activity: Activity, *, every_s: float = EVERY_S) -> Iterator[EventT | Progress]:
    """Yield the events of `steps`; while it is silent but at work, the last Progress again, without an estimate.

    `steps` runs on a thread of its own, and only while the next event is waited for. Closing this generator makes it
    stop soon, and waits for that.
    """
    last = Progress("reading", 0.0)
    with ThreadPoolExecutor(1, "graft-run") as pool:
        following: Future[EventT | None] | None = None
        try:
            while True:
                following, seen = pool.submit(next, steps, None), activity.signs
                while not wait((following,), every_s).done:
                    if activity.signs > seen:
                        seen = activity.signs
                        yield replace(last, message="", seconds_remaining=None, metrics={})
                event = following.result()
                if event is None:
                    return
                if isinstance(event, Progress):
                    last = event
                yield event
        finally:
            if following is not None and not following.done():
                activity.abandon()
