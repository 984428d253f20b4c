"""The keys of all objects. All of a customer's objects lie below `customers/{customer_id}/`."""

from __future__ import annotations

from dataclasses import dataclass

from models.artifacts.manifest import MANIFEST


def customer_prefix(customer_id: str) -> str:
    """Return the prefix of all objects of one customer."""
    return f"customers/{customer_id}/"


def file_key(customer_id: str, file_id: str) -> str:
    """Return the key of an uploaded data set."""
    return f"customers/{customer_id}/files/{file_id}"


def model_prefix(customer_id: str, model_id: str) -> str:
    """Return the prefix of all artifacts of one model."""
    return f"customers/{customer_id}/models/{model_id}/"


def artifact_prefix(customer_id: str, model_id: str, job_id: str, attempt: int, candidate: str) -> str:
    """Return the prefix of one trained version; scoped to the attempt: a stale worker cannot overwrite a live one."""
    return f"{model_prefix(customer_id, model_id)}{job_id}/{attempt}/{candidate}/"


def manifest_key(artifact_prefix_: str) -> str:
    """Return the key of the manifest, which is written last."""
    return f"{artifact_prefix_}{MANIFEST}"


@dataclass(frozen=True, slots=True)
class Place:
    """The ids in a key: which object of which customer it is."""

    customer_id: str
    file_id: str | None = None
    model_id: str | None = None
    job_id: str | None = None
    attempt: int = 0
    artifact_prefix: str | None = None


def locate(key: str) -> Place | None:
    """Read a key that was made here; None for any other."""
    match key.split("/"):
        case ["customers", customer_id, "files", file_id]:
            return Place(customer_id, file_id=file_id)
        case ["customers", customer_id, "models", model_id, job_id, attempt, candidate, _, *_] if attempt.isdecimal():
            prefix = artifact_prefix(customer_id, model_id, job_id, int(attempt), candidate)
            return Place(customer_id, None, model_id, job_id, int(attempt), prefix)
        case ["customers", customer_id, _, *_]:
            return Place(customer_id)
    return None
