"""Messages between the worker and its trainer process: one JSON object per line.

Commands go down the trainer's stdin; events come up a pipe of their own, because libraries print to stdout as they
like. Every event names the run (`job id/attempt`) that it belongs to, so a late one can never be taken for another's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from models.errors import JobError
from models.learning.contract import events as learning_events
from models.learning.contract.events import TrainEvent
from models.learning.contract.request import TrainRequest

EVENTS_FD_VARIABLE = "GRAFT_TRAINER_EVENTS_FD"
PARENT_VARIABLE = "GRAFT_TRAINER_PARENT"


@dataclass(frozen=True, slots=True)
class Train:
    """Command: run this. `context` is for the log."""

    run: str
    request: TrainRequest
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Command: end the run at the next opportunity and stay warm."""

    run: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Event: the process is up and its base model is warm."""

    base_model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Event: the run ended because it was asked to."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Event: the run ended with an error. `fatal`: the process is in an unknown state and exits."""

    error: JobError
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """Never on the wire: the process is gone. `status` as in `subprocess`: negative is a signal."""

    status: int


class ShutDown:
    """Never on the wire: the worker is about to end; its attempt gives the job back."""


Command = Train | Stop
TrainerEvent = TrainEvent | Ready | Stopped | Failed
_OWN_KINDS: dict[str, type[Ready] | type[Stopped] | type[Failed]] = {
    "ready": Ready,
    "stopped": Stopped,
    "error": Failed,
}


def encode_command(command: Command) -> bytes:
    """Return one line for the trainer's stdin."""
    if isinstance(command, Train):
        body = {"kind": "train", "run": command.run, "request": command.request.to_dict(), "context": command.context}
    else:
        body = {"kind": "stop", "run": command.run}
    return orjson.dumps(body) + b"\n"


def decode_command(line: bytes) -> Command:
    """Read what `encode_command` wrote; raises ValueError or KeyError for anything else."""
    body = orjson.loads(line)
    if body["kind"] == "train":
        return Train(body["run"], TrainRequest.from_dict(body["request"]), body["context"])
    if body["kind"] == "stop":
        return Stop(body["run"])
    raise ValueError(body["kind"])


def encode_event(run: str | None, event: TrainerEvent) -> bytes:
    """Return one line for the events' pipe. Not-a-number becomes null: JSON and PostgreSQL have none."""
    for kind, cls in _OWN_KINDS.items():
        if isinstance(event, cls):
            body = {"kind": kind, **asdict(event)}
            break
    else:
        body = learning_events.to_dict(event)  # type: ignore[arg-type]  # what is left is a TrainEvent
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps({"run": run, "event": body}, option=options) + b"\n"


def decode_event(line: bytes) -> tuple[str | None, TrainerEvent]:
    """Read what `encode_event` wrote: the run and the event. Raises ValueError, KeyError or TypeError otherwise."""
    body = orjson.loads(line)
    values = dict(body["event"])
    kind = values["kind"]
    if kind not in _OWN_KINDS:
        return body["run"], learning_events.from_dict(values)
    del values["kind"]
    if kind == "error":
        values["error"] = JobError.from_dict(values["error"])
    return body["run"], _OWN_KINDS[kind](**values)
