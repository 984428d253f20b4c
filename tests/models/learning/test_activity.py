"""A run that yields nothing for a while is reported as long as it works, and only then."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from models.learning.activity import Activity, report
from models.learning.contract.errors import Stopped
from models.learning.contract.events import Progress, TrainEvent

_DEADLINE_S = 30.0


def test_silent_work_that_asks_whether_to_stop_repeats_the_last_progress_without_an_estimate() -> None:
    seen, activity = threading.Event(), Activity(lambda: False)

    def steps() -> Iterator[TrainEvent]:
        yield Progress("fitting", 25.0, "Fitting a head", seconds_remaining=3.0, metrics={"loss": 1.0})
        while not seen.wait(0.001):
            activity()
        yield Progress("writing", 90.0)

    events = []
    for event in report(steps(), activity, every_s=0.01):
        events.append(event)
        if len(events) == 2:
            seen.set()

    assert events[0] == Progress("fitting", 25.0, "Fitting a head", seconds_remaining=3.0, metrics={"loss": 1.0})
    assert events[1] == Progress("fitting", 25.0)
    assert events[-1] == Progress("writing", 90.0)


def test_work_that_asks_nothing_is_not_reported_for_it_may_hang() -> None:
    activity = Activity(lambda: False)

    def steps() -> Iterator[TrainEvent]:
        threading.Event().wait(0.1)  # ten times as long as an event takes to be due
        yield Progress("writing", 90.0)

    assert list(report(steps(), activity, every_s=0.01)) == [Progress("writing", 90.0)]


def test_steps_run_only_while_the_next_event_is_waited_for() -> None:
    activity, ran = Activity(lambda: False), []

    def steps() -> Iterator[TrainEvent]:
        for percent in (1.0, 2.0):
            ran.append(percent)
            yield Progress("encoding", percent)

    events = report(steps(), activity)
    assert next(events) == Progress("encoding", 1.0)
    assert ran == [1.0]
    assert [*events] == [Progress("encoding", 2.0)]


def test_an_error_comes_out_as_it_is() -> None:
    def steps() -> Iterator[TrainEvent]:
        yield Progress("encoding", 1.0)
        raise Stopped

    events = report(steps(), Activity(lambda: False))
    next(events)
    with pytest.raises(Stopped):
        next(events)


def test_closing_ends_the_work_that_is_under_way() -> None:
    activity, ended = Activity(lambda: False), threading.Event()

    def steps() -> Iterator[TrainEvent]:
        yield Progress("fitting", 25.0)
        while not activity():
            pass
        ended.set()
        raise Stopped

    events = report(steps(), activity, every_s=0.001)
    next(events)
    assert next(events) == Progress("fitting", 25.0)  # silent, at work
    events.close()  # type: ignore[attr-defined]

    assert ended.wait(_DEADLINE_S)
