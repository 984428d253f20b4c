"""`graft train`, `jobs`, `watch`, `cancel`, `pause`, `resume`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, PromoteOption, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.data import ColumnPairs, columns_of
from deploy.cli.errors import CommandError
from deploy.cli.examples import call_of
from deploy.cli.lookup import JOBS, job_id, without_pin
from deploy.cli.progress import follow, look_up
from deploy.cli.reports import learning_curve_line, refinement_line, score_of, show_report
from deploy.cli.wording import in_commands
from models.learning.contract.request import STRATEGIES

JobRef = Annotated[str, typer.Argument(help="A job's id, or a model's name: its newest job.", metavar="JOB")]


def train(
    file: Annotated[Path, typer.Argument(help="CSV, JSONL, Parquet, or chat JSONL.", metavar="FILE")],
    *,
    suffix: Annotated[str | None, typer.Option(help="The model's name. (default: the file's name)")] = None,
    strategy: Annotated[str | None, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model; auto: the best one by a probe. (default: the server's)")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What to learn. (default: inferred from the file)")] = None,
    validation: Annotated[Path | None, typer.Option(help="A file to score on, instead of held-out rows.")] = None,
    unlabeled: Annotated[
        Path | None, typer.Option(help="Rows without labels: learned from where held-out rows gain by it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and data: same model.")] = None,
    promote: PromoteOption = None,
    column: ColumnPairs = None,
    hyperparameter: Annotated[
        list[str] | None,
        typer.Option("--hyperparameter", help="Sets one: n_epochs=3. Repeat it.", metavar="NAME=VALUE"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress until the job ends.")] = True,
    server: Server = None,
    key: Key = None,
) -> None:
    """Train a model of your own on FILE, and show how to call it."""
    fields = {"suffix": suffix, "strategy": strategy, "model": base, "task": task, "promote": promote}
    fields["seed"] = None if seed is None else str(seed)
    fields["columns"] = json.dumps(columns_of(column)) if column else None
    fields["hyperparameters"] = json.dumps(_hyperparameters(hyperparameter)) if hyperparameter else None
    given = {"file": file, "validation_file": validation, "unlabeled_file": unlabeled}
    paths = {name: path for name, path in given.items() if path is not None}
    for path in paths.values():
        if not path.is_file():
            raise CommandError(reason=f"There is no file {path}.")
    with Client(as_customer(server, key)) as client:
        job = submit(client, paths, {name: value for name, value in fields.items() if value is not None})
        console.show_warnings(job.get("warnings") or [], console.err)
        if not wait:
            out.print(job["id"])
            console.err.print(Text(f"{job['status']}; `graft watch {job['id']}` shows its progress.", style="dim"))
            return
        _watch(client, job, file, warned=job.get("warnings") or [])


def jobs(
    reference: Annotated[
        str | None,
        typer.Argument(
            help="A job's id or a model's name: shows that job; without one, all are listed.", metavar="JOB"
        ),
    ] = None,
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only jobs in this state: queued, running, succeeded, failed, …. Repeat it for several."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole object as JSON.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    server: Server = None,
    key: Key = None,
) -> None:
    """List jobs, newest first, or show one: its state, what it became, its report."""
    with Client(as_customer(server, key)) as client:
        if reference is not None:
            _show_one(client, reference, as_json=as_json)
            return
        rows = [
            [
                job["id"],
                console.status(job["status"]),
                job.get("step") or "",
                f"{job.get('percent') or 0:.0f} %",
                job.get("suffix"),
                score_of(job.get("report")),
                console.when(job["created_at"]),
            ]
            for job in client.each(JOBS, most=limit, status=status, suffix=model and without_pin(model))
        ]
    empty = "No job is of this state and model." if status or model else "No jobs yet: graft train FILE"
    show_table(["id", "status", "step", "done", "model", "score", "created"], rows, empty=empty)


def watch(reference: JobRef, server: Server = None, key: Key = None) -> None:
    """Follow a job until it ends. A server that restarts is waited for, a minute at most."""
    with Client(as_customer(server, key)) as client:
        _watch(client, look_up(lambda: client.get(f"{JOBS}/{job_id(client, reference)}"), waiting=_say_that_it_waits))


def cancel(reference: JobRef, server: Server = None, key: Key = None) -> None:
    """Stop a job. Versions that it has published stay."""
    _act(reference, "cancel", server, key)


def pause(reference: JobRef, server: Server = None, key: Key = None) -> None:
    """Pause a job and free its worker."""
    _act(reference, "pause", server, key)


def resume(reference: JobRef, server: Server = None, key: Key = None) -> None:
    """Go on with a paused job."""
    _act(reference, "resume", server, key)


def submit(client: Client, paths: Mapping[str, Path], fields: dict[str, str]) -> dict[str, Any]:
    """Send one multipart POST with the files in it, by the names of their fields; return the job as it was accepted."""
    with ExitStack() as stack:
        files = {name: (path.name, stack.enter_context(path.open("rb"))) for name, path in paths.items()}
        return client.upload(JOBS, fields=fields, files=files)


def show_job(found: dict[str, Any], *, warned: Sequence[dict[str, Any]] = ()) -> None:
    """Print the parts of a job that a person asks for first; not again the warnings that were shown before."""
    report = found.get("report") or {}
    console.show_lines(
        [
            ("job", found["id"]),
            ("status", console.status(found["status"])),
            ("step", found.get("step")),
            ("model", found.get("fine_tuned_model") or f"{found.get('suffix')} (nothing to call yet)"),
            ("base", found.get("model")),
            ("chosen", (found.get("base_choice") or {}).get("reason")),
            ("task", found.get("task")),
            ("strategy", _strategy(found)),
            ("score", score_of(report)),
            ("situation", _brief(report.get("situation"))),
            ("more rows", learning_curve_line(report)),
            ("refined", refinement_line(report)),
            ("promotion", (report.get("promotion") or {}).get("reason")),
            ("seed", found.get("seed")),
            ("took", console.duration(_seconds(found)) or None),
            ("error", _error(found)),
        ]
    )
    console.show_warnings([warning for warning in found.get("warnings") or [] if warning not in warned], out)


def _show_one(client: Client, reference: str, *, as_json: bool) -> None:
    found = client.get(f"{JOBS}/{job_id(client, reference)}")
    if as_json:
        console.show_json(found)
        return
    show_job(found)
    show_report(found.get("report") or {})


def _say_that_it_waits(error: CommandError) -> None:
    console.err.print(Text(f"{error} Trying again for a minute.", style="yellow"), soft_wrap=True)


def _watch(
    client: Client, job: dict[str, Any], file: Path | None = None, *, warned: Sequence[dict[str, Any]] = ()
) -> None:
    started = time.monotonic()

    def servable(found: dict[str, Any]) -> None:
        if found["status"] == "running":
            took = console.duration(time.monotonic() - started)
            console.err.print(Text(f"{found['fine_tuned_model']} answers already, after {took}.", style="green"))

    try:
        job = follow(client, job, servable=servable)
    except KeyboardInterrupt:
        console.err.print(
            f"\nThe job goes on. `graft watch {job['id']}` shows it, `graft cancel {job['id']}` stops it."
        )
        raise typer.Exit(130) from None
    show_job(job, warned=warned)
    if job["status"] in ("failed", "cancelled"):
        raise typer.Exit(1)
    if job.get("fine_tuned_model"):
        out.print()
        out.print(call_of(client, job, file), soft_wrap=True)


def _hyperparameters(pairs: list[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` options: numbers, true, false, else names; raises CommandError."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise CommandError(reason=f"--hyperparameter takes NAME=VALUE, as in n_epochs=3; got {pair!r}.")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _act(reference: str, verb: str, server: str | None, key: str | None) -> None:
    with Client(as_customer(server, key)) as client:
        found = client.post(f"{JOBS}/{job_id(client, reference)}/{verb}")
    out.print(Text.assemble(f"{found['id']} ", console.status(found["status"])))


def _strategy(found: dict[str, Any]) -> str:
    asked, became = found.get("strategy"), (found.get("report") or {}).get("strategy")
    return f"{asked} → {became}" if became and became != asked else str(asked or "")


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name") or value.get("situation") or "")
    return str(value or "")


def _seconds(found: dict[str, Any]) -> float | None:
    started, finished = found.get("created_at"), found.get("finished_at")
    return finished - started if started and finished else None


def _error(found: dict[str, Any]) -> str:
    error = found.get("error") or {}
    if not error:
        return ""
    blame = {"user": " (your data)", "server": " (the server's fault; not billed)"}.get(error.get("blame") or "", "")
    return f"{in_commands(str(error.get('message')))}{blame}"
