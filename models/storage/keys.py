"""Every object key of Graft is made here. All of a customer's objects lie below `customers/{customer_id}/`."""

from __future__ import annotations


def customer_prefix(customer_id: str) -> str:
    """Everything of one customer."""
    return f"customers/{customer_id}/"


def file_key(customer_id: str, file_id: str) -> str:
    """An uploaded data set."""
    return f"customers/{customer_id}/files/{file_id}"


def model_prefix(customer_id: str, model_id: str) -> str:
    """Every artifact of one model."""
    return f"customers/{customer_id}/models/{model_id}/"


def artifact_prefix(customer_id: str, model_id: str, job_id: str, attempt: int, candidate: str) -> str:
    """The files of one trained version; scoped to the attempt, so a stale worker cannot overwrite a live one."""
    return f"{model_prefix(customer_id, model_id)}{job_id}/{attempt}/{candidate}/"


def manifest_key(artifact_prefix_: str) -> str:
    """The manifest, which is written last."""
    return f"{artifact_prefix_}manifest.json"
