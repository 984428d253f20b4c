"""`graft import-openai`: a job that was exported from OpenAI, posted here with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out
from deploy.cli.errors import CommandError
from deploy.cli.training import submit

_METHODS = ("supervised", "dpo")
_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")


def import_openai(
    job: Annotated[Path, typer.Argument(help="The job as JSON, from jobs.retrieve(…).model_dump_json().")],
    file: Annotated[Path, typer.Argument(help="Its training file.")],
    *,
    validation: Annotated[Path | None, typer.Option("--validation", help="Its validation file.")] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Post a job of OpenAI's here: its suffix, seed, method, hyperparameters and metadata, on the base here."""
    try:
        exported = json.loads(job.read_text("utf-8"))
        fields = fields_of(exported)
    except (OSError, ValueError, AttributeError) as error:
        raise CommandError(reason=f"{job} is not a job as JSON: {error}") from None
    with Client(as_customer(server, key)) as client:
        posted = submit(client, file, validation, {**fields, "task": "text-generation"})
    console.show_warnings(posted.get("warnings") or [], console.err)
    out.print(f"{posted['id']}: {posted['suffix']} on {posted['model']}, in the place of {exported.get('model')}.")
    out.print(f"Follow it with  graft watch {posted['id']}")


def fields_of(exported: dict[str, Any]) -> dict[str, str]:
    """Return the form of a job here from one of OpenAI's; what has no meaning here is left out."""
    method = exported.get("method") or {"type": "supervised"}
    kind = str(method.get("type", "supervised"))
    if kind not in _METHODS:
        raise CommandError(reason=f"The method '{kind}' is not offered here; {' and '.join(_METHODS)} are.")
    asked = (method.get(kind) or {}).get("hyperparameters") or exported.get("hyperparameters") or {}
    kept = {name: asked[name] for name in _HYPERPARAMETERS if asked.get(name) is not None}
    fields = {"method": json.dumps({"type": kind, kind: {"hyperparameters": kept}})}
    suffix = exported.get("user_provided_suffix") or exported.get("suffix")
    if suffix:
        fields["suffix"] = str(suffix)
    if exported.get("seed") is not None:
        fields["seed"] = str(exported["seed"])
    if exported.get("metadata"):
        fields["metadata"] = json.dumps(exported["metadata"])
    return fields
