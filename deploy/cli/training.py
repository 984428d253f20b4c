"""`graft train`, `jobs`, `job`, `watch`, `cancel`, `pause`, `resume`."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError
from deploy.cli.progress import follow
from models.learning.contract.request import STRATEGIES

JobId = Annotated[str, typer.Argument(help="The job's id: ftjob-…", metavar="JOB")]
JOBS = "/v1/fine_tuning/jobs"


def train(
    file: Annotated[Path, typer.Argument(help="CSV, JSONL, Parquet, or chat JSONL.", metavar="FILE")],
    *,
    suffix: Annotated[str | None, typer.Option(help="The model's name. (default: the file's name)")] = None,
    strategy: Annotated[str | None, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model. (default: the server's)")] = None,
    task: Annotated[str | None, typer.Option(help="What to learn. (default: inferred from the file)")] = None,
    validation: Annotated[Path | None, typer.Option(help="A file to score on, instead of held-out rows.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and data: same model.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Names a column: text=body, label=category. Repeat it.", metavar="NAME=COLUMN"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress until the job ends.")] = True,
    server: Server = None,
    key: Key = None,
) -> None:
    """Train a model of your own on FILE, and show how to call it."""
    fields = {"suffix": suffix, "strategy": strategy, "model": base, "task": task}
    fields["seed"] = None if seed is None else str(seed)
    fields["columns"] = json.dumps(_columns(column)) if column else None
    for path in (file, *([validation] if validation else [])):
        if not path.is_file():
            raise CommandError(reason=f"There is no file {path}.")
    with Client(as_customer(server, key)) as client:
        job = submit(client, file, validation, {name: value for name, value in fields.items() if value is not None})
        if not wait:
            out.print(job["id"])
            console.err.print(Text(f"{job['status']}; `graft watch {job['id']}` shows its progress.", style="dim"))
            return
        _watch(client, job)


def jobs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    server: Server = None,
    key: Key = None,
) -> None:
    """List jobs, newest first."""
    with Client(as_customer(server, key)) as client:
        rows = [
            [
                job["id"],
                console.status(job["status"]),
                job.get("step") or "",
                f"{job.get('percent') or 0:.0f} %",
                job.get("suffix"),
                _score(job),
                console.when(job["created_at"]),
            ]
            for job in client.each(JOBS, most=limit)
        ]
    show_table(
        ["id", "status", "step", "done", "model", "score", "created"], rows, empty="No jobs yet: graft train FILE"
    )


def job(
    job_id: JobId,
    as_json: Annotated[bool, typer.Option("--json", help="The whole object as JSON.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Show one job: its state, what it became, and its report."""
    with Client(as_customer(server, key)) as client:
        found = client.get(f"{JOBS}/{job_id}")
    if as_json:
        out.print_json(data=found)
        return
    show_job(found)


def watch(job_id: JobId, server: Server = None, key: Key = None) -> None:
    """Follow a job until it ends."""
    with Client(as_customer(server, key)) as client:
        _watch(client, client.get(f"{JOBS}/{job_id}"))


def cancel(job_id: JobId, server: Server = None, key: Key = None) -> None:
    """Stop a job. Versions that it has published stay."""
    _act(job_id, "cancel", server, key)


def pause(job_id: JobId, server: Server = None, key: Key = None) -> None:
    """Pause a job and free its worker."""
    _act(job_id, "pause", server, key)


def resume(job_id: JobId, server: Server = None, key: Key = None) -> None:
    """Go on with a paused job."""
    _act(job_id, "resume", server, key)


def submit(client: Client, file: Path, validation: Path | None, fields: dict[str, str]) -> dict[str, Any]:
    """One multipart POST with the data in it; the job as it was accepted."""
    with file.open("rb") as data:
        files: dict[str, Any] = {"file": (file.name, data)}
        if validation is None:
            return client.upload(JOBS, fields=fields, files=files)
        with validation.open("rb") as held_out:
            return client.upload(JOBS, fields=fields, files=files | {"validation_file": (validation.name, held_out)})


def show_job(found: dict[str, Any]) -> None:
    """The parts of a job that a person asks for first."""
    report = found.get("report") or {}
    lines: list[tuple[str, Any]] = [
        ("job", found["id"]),
        ("status", console.status(found["status"])),
        ("step", found.get("step")),
        ("model", found.get("fine_tuned_model") or f"{found.get('suffix')} (nothing to call yet)"),
        ("base", found.get("model")),
        ("task", found.get("task")),
        ("strategy", _strategy(found)),
        ("score", _score(found)),
        ("situation", _brief(report.get("situation"))),
        ("seed", found.get("seed")),
        ("took", console.duration(_seconds(found)) or None),
        ("error", _error(found)),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        if value not in (None, ""):
            out.print(Text.assemble((f"{name:<{width}}  ", "dim"), value if isinstance(value, Text) else str(value)))


def show_call(server: str, model: str, example: str = "Where is my order?") -> None:
    """How to call the model that was trained."""
    body = shlex.quote(json.dumps({"inputs": [example]}))
    out.print(
        f"curl {server}/v1/models/{model}/predict \\\n"
        f'  -H "Authorization: Bearer $GRAFT_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {body}",
        soft_wrap=True,
    )


def _watch(client: Client, job: dict[str, Any]) -> None:
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
    show_job(job)
    if job["status"] in ("failed", "cancelled"):
        raise typer.Exit(1)
    if job.get("fine_tuned_model"):
        out.print()
        show_call(client.server, job.get("suffix") or job["fine_tuned_model"])


def _act(job_id: str, verb: str, server: str | None, key: str | None) -> None:
    with Client(as_customer(server, key)) as client:
        found = client.post(f"{JOBS}/{job_id}/{verb}")
    out.print(Text.assemble(f"{job_id} ", console.status(found["status"])))


def _columns(pairs: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name or not column:
            raise CommandError(reason=f"--column takes NAME=COLUMN, as in --column text=body; got {pair!r}.")
        columns[name] = column
    return columns


def _score(found: dict[str, Any]) -> str:
    report = found.get("report") or {}
    score = report.get("score")
    if not isinstance(score, int | float):
        return ""
    low, high = report.get("score_low"), report.get("score_high")
    interval = f" ({low:.3f} to {high:.3f})" if isinstance(low, int | float) and isinstance(high, int | float) else ""
    return f"{report.get('metric', 'score')} {score:.3f}{interval}"


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
    return f"{error.get('message')}{blame}"
