"""The phases of an attempt: every way between them, without a process."""

from __future__ import annotations

from itertools import product

import pytest

from worker.phases import STOPPABLE, TRANSITIONS, WORKING, Event, IllegalPhaseChange, Phase, follow


def walk(*events: Event) -> list[Phase]:
    """The phases that an attempt passes through."""
    phases = [Phase.PREPARING]
    for event in events:
        phases.append(follow(phases[-1], event))
    return phases[1:]


@pytest.mark.parametrize(
    ("events", "phases"),
    [
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.TRAINED, Event.WRITTEN],
            [Phase.WAITING, Phase.TRAINING, Phase.CONCLUDING, Phase.ENDED],
            id="trained and written",
        ),
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.TRAINED, Event.FAILED, Event.WRITTEN],
            [Phase.WAITING, Phase.TRAINING, Phase.CONCLUDING, Phase.CONCLUDING, Phase.ENDED],
            id="the result could not be written, and that is written",
        ),
        pytest.param([Event.FAILED, Event.WRITTEN], [Phase.CONCLUDING, Phase.ENDED], id="no data sets"),
        pytest.param(
            [Event.PREPARED, Event.FAILED, Event.WRITTEN],
            [Phase.WAITING, Phase.CONCLUDING, Phase.ENDED],
            id="no trainer could be started",
        ),
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.STOP_REQUESTED, Event.TRAINER_IDLE, Event.WRITTEN],
            [Phase.WAITING, Phase.TRAINING, Phase.STOPPING, Phase.RELEASING, Phase.ENDED],
            id="stopped while the trainer is at work: it has to end the run first",
        ),
        pytest.param(
            [Event.STOP_REQUESTED, Event.WRITTEN], [Phase.RELEASING, Phase.ENDED], id="stopped before a trainer has it"
        ),
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.TRAINED, Event.STOP_REQUESTED, Event.WRITTEN],
            [Phase.WAITING, Phase.TRAINING, Phase.CONCLUDING, Phase.WITHDRAWING, Phase.ENDED],
            id="stopped while the result is being written: the first of the two counts",
        ),
        pytest.param(
            [Event.FAILED, Event.STOP_REQUESTED, Event.FAILED, Event.WRITTEN],
            [Phase.CONCLUDING, Phase.WITHDRAWING, Phase.RELEASING, Phase.ENDED],
            id="stopped while a write is under way that fails",
        ),
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.SHUT_DOWN, Event.SHUT_DOWN, Event.WRITTEN],
            [Phase.WAITING, Phase.TRAINING, Phase.RELEASING, Phase.RELEASING, Phase.ENDED],
            id="the worker ends: no time to ask the trainer, and it may be said twice",
        ),
        pytest.param(
            [Event.PREPARED, Event.HANDED_OVER, Event.STOP_REQUESTED, Event.SHUT_DOWN],
            [Phase.WAITING, Phase.TRAINING, Phase.STOPPING, Phase.RELEASING],
            id="the worker ends while it stops the trainer",
        ),
        pytest.param(
            [Event.FAILED, Event.SHUT_DOWN, Event.LOST],
            [Phase.CONCLUDING, Phase.CONCLUDING, Phase.ENDED],
            id="the worker ends and the last write does not arrive in time",
        ),
    ],
)
def test_an_attempt_goes_this_way(events, phases):
    assert walk(*events) == phases


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ENDED])
def test_a_lost_lease_ends_every_phase(phase):
    assert follow(phase, Event.LOST) is Phase.ENDED


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_what_is_not_in_the_table_raises(phase, event):
    if event in TRANSITIONS[phase]:
        assert follow(phase, event) is TRANSITIONS[phase][event]
    else:
        with pytest.raises(IllegalPhaseChange, match=f"An attempt that is {phase.value} cannot take '{event.value}'"):
            follow(phase, event)


def test_nothing_follows_the_end_and_everything_leads_to_it():
    assert TRANSITIONS[Phase.ENDED] == {}
    reached = {Phase.PREPARING}
    while new := {after for phase in reached for after in TRANSITIONS[phase].values()} - reached:
        reached |= new
    assert reached == set(Phase)


def test_a_job_can_be_stopped_as_long_as_it_is_worked_on_or_written():
    assert {*WORKING, Phase.CONCLUDING} == STOPPABLE
