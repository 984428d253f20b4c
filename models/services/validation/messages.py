"""Messages between the API and a process that reads files: one JSON object per line.

JSON, because nothing that such a process writes may be run here: it has read what strangers sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.datasets import errors as dataset_errors
from models.datasets import validation
from models.datasets.examples import DatasetProfile
from models.datasets.limits import Limits
from models.datasets.validation import Role
from models.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Order:
    """A file to read, and what `models.datasets.validation.inspect` wants to know besides."""

    path: Path
    filename: str
    task: str | None
    columns: dict[str, str] | None
    role: Role
    limits: Limits
    seconds: float  # of computing time

    def inspect(self) -> DatasetProfile:
        """Read the file in this process. Raises InvalidDataset."""
        return validation.inspect(
            self.path,
            filename=self.filename,
            task=self.task,
            columns=self.columns,
            role=self.role,
            limits=self.limits,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """The process has imported what it needs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a file holds, or what is wrong with it. `last`: the process has grown, and ends."""

    profile: DatasetProfile | None = None
    refusal: InvalidRequest | None = None
    out_of_memory: bool = False
    disk_full: bool = False
    fault: str | None = None  # a mistake in the program, as a traceback
    last: bool = False


_REFUSALS: dict[str, type[InvalidRequest]] = {
    name: cls for name, cls in vars(dataset_errors).items() if isinstance(cls, type) and issubclass(cls, InvalidRequest)
}


def encode_order(order: Order) -> bytes:
    """Return one line for a process's standard input."""
    return _line({**asdict(order), "path": str(order.path)})


def decode_order(line: bytes) -> Order:
    """Read what `encode_order` wrote."""
    body = json.loads(line)
    return Order(**{**body, "path": Path(body["path"]), "limits": Limits(**body["limits"])})


def encode(message: Ready | Answer) -> bytes:
    """Return one line for the API."""
    if isinstance(message, Ready):
        return _line({"ready": True})
    return _line(
        {
            "profile": asdict(message.profile) if message.profile else None,
            "refusal": _describe(message.refusal) if message.refusal else None,
            "out_of_memory": message.out_of_memory,
            "disk_full": message.disk_full,
            "fault": message.fault,
            "last": message.last,
        }
    )


def decode(line: bytes) -> Ready | Answer:
    """Read what `encode` wrote; raises ValueError, KeyError or TypeError for anything else."""
    body = json.loads(line)
    if "ready" in body:
        return Ready()
    return Answer(
        profile=DatasetProfile(**body["profile"]) if body["profile"] else None,
        refusal=_restore(body["refusal"]) if body["refusal"] else None,
        out_of_memory=body["out_of_memory"],
        disk_full=body["disk_full"],
        fault=body["fault"],
        last=body["last"],
    )


def _describe(error: InvalidRequest) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "message": str(error),
        "data": error.data,
        "details": error.details,
        "param": error.param,
        "total": getattr(error, "total", None),
    }


def _restore(body: dict[str, Any]) -> InvalidRequest:
    """Return the error as it was raised: by its message, which is not made anew from its data."""
    cls = _REFUSALS[body["class"]]
    error = cls.__new__(cls, body["message"])
    error.args = (body["message"],)
    error.data, error.details, error.param = body["data"], body["details"], body["param"]
    if isinstance(error, dataset_errors.InvalidDataset):
        error.total = body["total"]
    return error


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, default=_plain).encode("ascii") + b"\n"


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)  # NumPy's numbers
    return item() if item is not None else str(value)
