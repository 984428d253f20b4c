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
# What a row of each has, by OpenAI's documentation; prompt and completion: its oldest files.
_ROWS: dict[str, tuple[frozenset[str], ...]] = {
    "supervised": (frozenset({"messages"}), frozenset({"prompt", "completion"})),
    "dpo": (frozenset({"input", "preferred_output", "non_preferred_output"}),),
}
_EXPORT = "Export one with client.fine_tuning.jobs.retrieve(…).model_dump_json()."
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
    exported = read_job(job)
    fields = fields_of(exported)
    for path in (file, validation):
        if path is not None:
            check_rows(path, json.loads(fields["method"])["type"])
    with Client(as_customer(server, key)) as client:
        paths = {"file": file, **({"validation_file": validation} if validation else {})}
        posted = submit(client, paths, {**fields, "task": "text-generation"})
    console.show_warnings(posted.get("warnings") or [], console.err)
    out.print(f"{posted['id']}: {posted['suffix']} on {posted['model']}, in the place of {exported.get('model')}.")
    out.print(f"Follow it with  graft watch {posted['id']}")


def read_job(path: Path) -> dict[str, Any]:
    """Return an exported job. Raises CommandError for anything else."""
    try:
        exported = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = f"{path} is not a job as JSON ({error}). Name the job first, then its training file."
        raise CommandError(reason=reason) from None
    if not isinstance(exported, dict) or exported.get("object", "fine_tuning.job") != "fine_tuning.job":
        what = f"a {exported['object']}" if isinstance(exported, dict) else "not an object"
        raise CommandError(reason=f"{path} is no job of OpenAI's, it is {what}. {_EXPORT}")
    if not {"model", "training_file"} <= set(exported):
        raise CommandError(reason=f"{path} is no job of OpenAI's: it names no model and training_file. {_EXPORT}")
    return exported


def check_rows(path: Path, method: str) -> None:
    """Raise CommandError for a file that is not what OpenAI trains on; the server looks at all rows later."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            first = next((line for line in lines if line.strip()), "")
    except (OSError, ValueError) as error:
        raise CommandError(reason=f"{path} cannot be read: {error}") from None
    wanted = _ROWS[method]
    try:
        row = json.loads(first)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        reason = f"{path} is not JSONL, as OpenAI's training files are: its first line is no JSON object."
        raise CommandError(reason=f"{reason} Tables are for `graft train {path}`.")
    if not any(columns <= set(row) for columns in wanted):
        named = " or ".join(", ".join(sorted(columns)) for columns in wanted)
        reason = f"The first line of {path} has {', '.join(map(str, row))[:200] or 'no fields'}, and a {method} job "
        raise CommandError(reason=f"{reason}of OpenAI's has {named}. Other rows are for `graft train {path}`.")


def fields_of(exported: dict[str, Any]) -> dict[str, str]:
    """Return the form of a job here from one of OpenAI's; what has no meaning here is left out."""
    method = exported.get("method") or {"type": "supervised"}
    if not isinstance(method, dict):
        raise CommandError(reason=f"The job's method is no object: {json.dumps(method)[:100]}.")
    kind = str(method.get("type", "supervised"))
    if kind not in _METHODS:
        raise CommandError(reason=f"The method '{kind}' is not offered here; {' and '.join(_METHODS)} are.")
    own = method.get(kind) or {}
    asked = (own.get("hyperparameters") if isinstance(own, dict) else own) or exported.get("hyperparameters") or {}
    if not isinstance(asked, dict):
        raise CommandError(reason=f"The job's hyperparameters are no object: {json.dumps(asked)[:100]}.")
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
