"""Names in the place of ids, and what may have been meant where a name is not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from deploy.cli.client import Client
from deploy.cli.errors import ApiRefused, CommandError

JOBS = "/v1/fine_tuning/jobs"
_LOOKED_THROUGH = 1_000  # names, before a suggestion is given up


def job_id(client: Client, reference: str) -> str:
    """Return a job's id: itself, that of a model's newest job, or that of the job of a version (`tickets@1`).

    Raises CommandError with what may have been meant.
    """
    if reference.startswith("ftjob-"):
        return reference
    if "@" in reference:
        return _job_of_version(client, reference)
    name = without_pin(reference)
    for job in client.each(JOBS, most=1, suffix=name):
        return str(job["id"])
    names = {str(job["suffix"]) for job in client.each(JOBS, most=_LOOKED_THROUGH)}
    raise CommandError(reason=f"No job and no model with a job is called '{reference}'.{suggestion(name, names)}")


def _job_of_version(client: Client, reference: str) -> str:
    model = client.get(f"/v1/models/{reference}")
    for version in client.each(f"/v1/models/{model['id']}/versions"):
        if version["version"] == model["version"]:
            return str(version["job"])
    raise CommandError(reason=f"No job is known of '{reference}'.")


def file_id(client: Client, reference: str) -> str:
    """Return a file's id: itself, or that of the only file of a name; raises CommandError."""
    if reference.startswith("file-"):
        return reference
    ids: dict[str, list[str]] = {}
    for file in client.each("/v1/files", most=_LOOKED_THROUGH):
        ids.setdefault(str(file["filename"]), []).append(str(file["id"]))
    found = ids.get(reference, [])
    if len(found) > 1:
        raise CommandError(
            reason=f"{len(found)} files are called '{reference}'. Name one by its id: {', '.join(found)}"
        )
    if found:
        return found[0]
    names = set(ids)
    raise CommandError(reason=f"No file is called '{reference}'.{suggestion(reference, names)}")


def customer_id(client: Client, reference: str) -> str:
    """Return a customer's id: itself, or that of a name; raises CommandError."""
    if reference.startswith("cus_"):
        return reference
    names = set()
    for customer in client.each("/v1/customers"):
        if customer["name"] == reference:
            return str(customer["id"])
        names.add(str(customer["name"]))
    raise CommandError(reason=f"No customer is called '{reference}'.{suggestion(reference, names)}")


def key_id(client: Client, customer: str, reference: str) -> str:
    """Return the id of one of a customer's keys: itself, or that of the only valid key of a name; raises CommandError.

    `customer` is the customer's id.
    """
    if reference.startswith("key_"):
        return reference
    keys = list(client.each(f"/v1/customers/{customer}/keys"))
    found = [str(key["id"]) for key in keys if key["name"] == reference and not key.get("revoked_at")]
    if len(found) > 1:
        raise CommandError(reason=f"{len(found)} keys are called '{reference}'. Say which: {', '.join(found)}.")
    if not found:
        names = {str(key["name"]) for key in keys}
        raise CommandError(reason=f"No valid key is called '{reference}'.{suggestion(reference, names)}")
    return found[0]


@contextmanager
def suggesting_models(client: Client, reference: str) -> Iterator[None]:
    """Add the nearest name to the API's error about a model that it does not know."""
    try:
        yield
    except ApiRefused as error:
        if error.code != "not_found" or error.error.get("param") != "model":
            raise
        name = without_pin(reference)
        names = {str(model["name"]) for model in client.each("/v1/models") if model.get("kind") != "base"}
        hint = suggestion(name, names - {name})
        if not hint:
            raise
        raise ApiRefused(error.http_status, {**error.error, "message": f"{error}{hint}"}, error.request_id) from None


def suggestion(given: str, known: Collection[str]) -> str:
    """Return ` Did you mean …?`, or what there is if that is little, or nothing."""
    alike = difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.5)
    if alike:
        return f" Did you mean '{alike[0]}'?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 10 else ""


def without_pin(reference: str) -> str:
    """Return the short name of a model: of `tickets@1`, of `ft:minilm:acme:tickets`."""
    return reference.partition("@")[0].rpartition(":")[2]
