"""The phases of an attempt and the only ways between them. An event that cannot happen in a phase raises."""

from __future__ import annotations

from enum import Enum

from models.errors import GraftError


class Phase(Enum):
    """The phase of an attempt at a job."""

    PREPARING = "preparing"  # the data sets are being fetched
    WAITING = "waiting"  # for a live trainer process
    TRAINING = "training"  # the trainer is at work on this run
    STOPPING = "stopping"  # the customer wants a stop; the trainer has been asked and has not ended the run yet
    CONCLUDING = "concluding"  # the last write (the result, or why there is none) is in the background tasks
    WITHDRAWING = "withdrawing"  # a stop is wanted while the last write is under way: the first of the two counts
    RELEASING = "releasing"  # giving the job back is tried until it is written
    ENDED = "ended"


class Event(Enum):
    """An event that moves an attempt from phase to phase."""

    PREPARED = "prepared"  # the request is complete
    HANDED_OVER = "handed_over"  # a trainer has got it
    TRAINED = "trained"  # the trainer has reported its result
    FAILED = "failed"  # it ended without a result, or the last write failed
    STOP_REQUESTED = "stop_requested"  # the customer wants it cancelled or paused
    TRAINER_IDLE = "trainer_idle"  # the run that was asked to stop is over, or its trainer is dead
    SHUT_DOWN = "shut_down"  # the worker is about to end
    WRITTEN = "written"  # the last write or the release is in the database
    LOST = "lost"  # the lease belongs to another attempt, or nothing can be written any more


TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.PREPARING: {
        Event.PREPARED: Phase.WAITING,
        Event.FAILED: Phase.CONCLUDING,
        Event.STOP_REQUESTED: Phase.RELEASING,
        Event.SHUT_DOWN: Phase.RELEASING,
        Event.LOST: Phase.ENDED,
    },
    Phase.WAITING: {
        Event.HANDED_OVER: Phase.TRAINING,
        Event.FAILED: Phase.CONCLUDING,
        Event.STOP_REQUESTED: Phase.RELEASING,
        Event.SHUT_DOWN: Phase.RELEASING,
        Event.LOST: Phase.ENDED,
    },
    Phase.TRAINING: {
        Event.TRAINED: Phase.CONCLUDING,
        Event.FAILED: Phase.CONCLUDING,
        Event.STOP_REQUESTED: Phase.STOPPING,
        Event.SHUT_DOWN: Phase.RELEASING,  # no time to ask: the trainer is killed
        Event.LOST: Phase.ENDED,
    },
    Phase.STOPPING: {
        Event.TRAINER_IDLE: Phase.RELEASING,
        Event.SHUT_DOWN: Phase.RELEASING,
        Event.LOST: Phase.ENDED,
    },
    Phase.CONCLUDING: {
        Event.FAILED: Phase.CONCLUDING,  # the result could not be written: another write reports that
        Event.STOP_REQUESTED: Phase.WITHDRAWING,
        Event.SHUT_DOWN: Phase.CONCLUDING,  # it has some seconds left
        Event.WRITTEN: Phase.ENDED,
        Event.LOST: Phase.ENDED,
    },
    Phase.WITHDRAWING: {
        Event.FAILED: Phase.RELEASING,
        Event.SHUT_DOWN: Phase.WITHDRAWING,
        Event.WRITTEN: Phase.ENDED,
        Event.LOST: Phase.ENDED,
    },
    Phase.RELEASING: {
        Event.SHUT_DOWN: Phase.RELEASING,
        Event.WRITTEN: Phase.ENDED,
        Event.LOST: Phase.ENDED,
    },
    Phase.ENDED: {},
}

# The attempt's own work goes on; a failure of it is a failure of the attempt.
WORKING = frozenset({Phase.PREPARING, Phase.WAITING, Phase.TRAINING})
# The last write is under way: a lease that is gone may have been ended by it.
WRITING = frozenset({Phase.CONCLUDING, Phase.WITHDRAWING})
STOPPABLE = frozenset(phase for phase, ways in TRANSITIONS.items() if Event.STOP_REQUESTED in ways)


class IllegalPhaseChange(GraftError):
    """An event came in a phase in which it cannot happen: a mistake in the program."""

    message = "An attempt that is {phase} cannot take '{event}'."


def follow(phase: Phase, event: Event) -> Phase:
    """Return the phase after an event. Raises IllegalPhaseChange if the event cannot happen in this phase."""
    following = TRANSITIONS[phase].get(event)
    if following is None:
        raise IllegalPhaseChange(phase=phase.value, event=event.value)
    return following
