"""`graft check`, `files`, `delete-file`, `usage`: data sets before and after their upload, and what was used."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError
from deploy.cli.lookup import file_id
from models.datasets.errors import InvalidDataset

FileRef = Annotated[str, typer.Argument(help="A file's id or name.", metavar="FILE")]
ColumnPairs = Annotated[
    list[str] | None,
    typer.Option("--column", help="Names a column: text=body, label=category. Repeat it.", metavar="NAME=COLUMN"),
]
_LABELS = 40
_HOUR_S, _DAY_S = 3_600, 86_400
_MOST_DAYS = 366  # that the API sums up at once


def check(
    file: Annotated[Path, typer.Argument(help="CSV, JSONL, Parquet, chat JSONL, or a zip.", metavar="FILE")],
    *,
    task: Annotated[str | None, typer.Option(help="What to learn. (default: inferred from the file)")] = None,
    column: ColumnPairs = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="It is to be scored on: what only learning needs is not asked of it.")
    ] = False,
    unlabeled: Annotated[
        bool, typer.Option("--unlabeled", help="It holds rows without labels: nothing but their inputs is read.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was found as JSON; for a bad file, the error.")] = False,
) -> None:
    """Check a data set on this machine as an upload would: no server, nothing leaves it."""
    from deploy.cli.running import read_settings  # noqa: PLC0415  # the launcher and the control plane: not for all
    from models.services.files import NewFile, inspect  # noqa: PLC0415

    if not file.is_file():
        raise CommandError(reason=f"There is no file {file}.")
    columns = columns_of(column) if column else None
    if validation and unlabeled:
        raise CommandError(
            reason="A file is either one to score on (--validation) or one without labels (--unlabeled)."
        )
    purpose = "validation" if validation else "unlabeled" if unlabeled else "fine-tune"
    new = NewFile(file, file.name, purpose, task=task, columns=columns)
    try:
        found = asdict(inspect(read_settings(), new))
    except InvalidDataset as error:
        if not as_json:
            raise
        console.show_json({"error": {**error.as_dict(), "total": error.total}})
        raise typer.Exit(1) from None
    if as_json:
        console.show_json(found)
        return
    show_profile(found)
    words = [str(file), *(["--task", task] if task else [])]
    for pair in column or []:
        words += ["--column", pair]
    train = f"trained on: graft train {shlex.join(words)}"
    beside = {"validation": "scored on", "unlabeled": "learned from without labels"}
    use = f"{beside[purpose]}: graft train … --{purpose} {shlex.quote(str(file))}" if purpose in beside else train
    out.print(Text(f"\n{file.name} can be {use}", style="green"))


def files(
    reference: Annotated[
        str | None, typer.Argument(help="A file's id or name; without one, all are listed.", metavar="FILE")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="The whole objects as JSON.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """List uploaded files, or show one with what validation found."""
    with Client(as_customer(server, key)) as client:
        if reference is not None:
            found = client.get(f"/v1/files/{file_id(client, reference)}")
            if as_json:
                console.show_json(found)
            else:
                show_profile({"file": found["id"], "name": found["filename"], **found})
            return
        listed = list(client.each("/v1/files", most=limit))
    if as_json:
        console.show_json(listed)
        return
    rows = [
        [
            found["id"],
            found["filename"],
            found["task"],
            found["rows"],
            f"{found['bytes'] / 1024:,.0f} kB",
            len(found["warnings"]) or "",
            console.when(found["created_at"]),
        ]
        for found in listed
    ]
    columns = ["id", "name", "task", "rows", "size", "warnings", "created"]
    show_table(columns, rows, empty="No files yet: graft train FILE")


def delete_file(reference: FileRef, server: Server = None, key: Key = None) -> None:
    """Delete a file that no unfinished job uses. Models that were trained on it stay."""
    with Client(as_customer(server, key)) as client:
        found = client.delete(f"/v1/files/{file_id(client, reference)}")
    out.print(f"{found['id']} is deleted.")


def usage(
    days: Annotated[float, typer.Option(min=0, max=_MOST_DAYS, help="How far back, from the start of an hour.")] = 7,
    by_hour: Annotated[bool, typer.Option("--hours", help="Hour by hour.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Sum up what was used, by kind and model."""
    now = time.time()
    with Client(as_customer(server, key)) as client:
        width = "1h" if by_hour else "1d"
        # Usage is written down by the hour, and counts where its hour begins: the one in which the time begins, too.
        since = max((now - days * _DAY_S) // _HOUR_S * _HOUR_S, now - _MOST_DAYS * _DAY_S)
        buckets = list(client.each("/v1/usage", start_time=since, end_time=now, bucket_width=width))
    sums: dict[tuple[str, str, str], list[float]] = {}
    for bucket in buckets:
        hour = console.when(bucket["start_time"]) if by_hour else ""
        total = sums.setdefault((hour, bucket["kind"], bucket["model"]), [0, 0, 0, 0.0, 0.0])
        for index, name in enumerate(("requests", "rows", "tokens", "seconds", "byte_days")):
            total[index] += bucket[name]
    rows = [
        [
            *([hour] if by_hour else []),
            kind,
            model or "files",
            *(f"{value:,.0f}" for value in total[:3]),
            f"{total[3]:,.1f} s",
            f"{total[4] / 1e6:,.3f}",
        ]
        for (hour, kind, model), total in sums.items()
    ]
    columns = [*(["hour"] if by_hour else []), "kind", "model", "requests", "rows", "tokens", "time", "MB days"]
    show_table(columns, rows, empty=f"Nothing was used in the last {days:g} days.")


def show_profile(found: dict[str, Any]) -> None:
    """Print what validation found in a file: lines, labels, warnings."""
    labels = found.get("labels") or {}
    columns = ", ".join(f"{name} ← {own}" if name != own else own for name, own in found["columns"].items())
    lines = [(name, found.get(name)) for name in ("file", "name", "format", "task", "rows")]
    console.show_lines([*lines, ("columns", columns), ("labels", len(labels) or None)])
    if labels:
        out.print()
        shown = list(labels.items())[:_LABELS]
        show_table(["label", "rows"], [[label, count] for label, count in shown], empty="")
        if len(labels) > _LABELS:
            out.print(Text(f"and {len(labels) - _LABELS} more", style="dim"))
    console.show_warnings(found.get("warnings") or [], out)


def columns_of(pairs: list[str]) -> dict[str, str]:
    """Read `NAME=COLUMN` options; raises CommandError."""
    columns: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name or not column:
            raise CommandError(reason=f"--column takes NAME=COLUMN, as in --column text=body; got {pair!r}.")
        columns[name] = column
    return columns
