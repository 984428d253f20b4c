"""`graft base-models …`: what jobs can start from, for customers; `add`, `catalogue`, `retire`, for the operator."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError
from deploy.cli.running import read_settings
from deploy.local.folder import is_data_folder
from models.backbones import base_models_file
from models.backbones.adding import addition
from models.backbones.adding import catalogue as curated
from models.settings import Settings

base_models = typer.Typer(
    invoke_without_command=True, help="List the base models that jobs can start from; add some, retire some."
)

DataFolder = Annotated[
    Path | None, typer.Option("--data", "-d", help="Folder of the installation. (default: graft-data)")
]
BaseName = Annotated[str, typer.Argument(help="A base model's name.", metavar="NAME")]


@base_models.callback()
def list_bases(context: typer.Context, server: Server = None, key: Key = None) -> None:
    """List the base models that jobs can start from; add some, retire some."""
    if context.invoked_subcommand is not None:
        return
    with Client(as_customer(server, key)) as client:
        rows = [
            [
                found["id"],
                found.get("modality"),
                _millions(found.get("parameters")),
                found.get("width"),
                found.get("licence"),
                Text("retired", style="yellow") if found.get("retired") else "",
            ]
            for found in client.each("/v1/models")
            if found.get("kind") == "base"
        ]
    show_table(["name", "modality", "parameters", "width", "licence", ""], rows, empty="No base models.")


@base_models.command("add")
def add(
    model: Annotated[
        str,
        typer.Argument(
            help="A name of the catalogue, an id of the hub, a folder, a wheel's file, an installed package.",
            metavar="MODEL",
        ),
    ],
    *,
    name: Annotated[str | None, typer.Option("--name", help="What jobs call it. (default: from the model)")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Of the hub; the commit that it is now is pinned. (default: main)")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of the weights, where the model does not state it.")
    ] = None,
    data: DataFolder = None,
) -> None:
    """Look into a model, try it on this machine, and enter it as a base model. Nothing has to be restarted."""
    from models.backbones.adding import trial  # noqa: PLC0415 - torch comes with it

    # What loading logs is said below, in words.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settings = _settings(data)
    with console.err.status("Starting …") as status:
        asked = addition.Asked(model, name, revision, licence)
        added = addition.add(settings, asked, trial.run, report=lambda line: status.update(f"{line} …"))
    entry, found = added.entry, added.trial
    cost = None if found.ms_per_input is None else _cost(found.ms_per_input, trial.WHAT[entry.modality])
    console.show_lines(
        [
            ("base", entry.name),
            ("source", entry.source),
            ("reads", f"{entry.modality}, up to {entry.max_tokens} tokens" if entry.max_tokens else entry.modality),
            ("languages", _languages(added.facts.languages)),
            ("licence", entry.licence),
            ("network", f"{added.facts.architecture}: {entry.blocks} blocks, width {entry.width}"),
            ("parameters", _millions(entry.parameters)),
            ("good for", added.good_for),
            ("runs in", f"{found.precision}; loaded in {console.duration(found.seconds_to_load)}"),
            ("parity", found.parity_line() if entry.kind == "encoder" else None),
            ("cost", cost),
        ]
    )
    path = base_models_file.path_of(settings)
    said = f"'{entry.name}' is in {path}" if added.is_new else f"'{entry.name}' was in {path} already"
    console.err.print(Text(f"{said}.{f' {added.note}' if added.note else ''}", style="bold green"), soft_wrap=True)
    console.err.print(
        f"API, predictors and workers that read this file take it up with the next job: no restart. "
        f"A job names it with model={entry.name}, or leaves the choice to you with model=auto.",
        soft_wrap=True,
    )


@base_models.command("catalogue")
def catalogue() -> None:
    """List models that are worth adding, with size, licence, languages, and what they cost."""
    rows = [
        [
            entry.name,
            entry.modality,
            f"{entry.parameters} M",
            entry.licence,
            entry.languages,
            "" if entry.seconds is None else f"{entry.seconds:.0f} s",
            entry.good_for,
        ]
        for entry in curated.CATALOGUE
    ]
    columns = ["name", "modality", "size", "licence", "languages", "1,000 inputs", "good for"]
    show_table(columns, rows, empty="")
    console.err.print(
        Text(
            "Seconds on one core, a text of some twenty words, a picture, three seconds of sound. "
            "`graft base-models add NAME` fetches one, reads its licence anew, and measures it here.",
            style="dim",
        ),
        soft_wrap=True,
    )


@base_models.command("retire")
def retire(name: BaseName, data: DataFolder = None) -> None:
    """Let no new job start from a base model. What was trained on it goes on answering; queued jobs still run."""
    path = _set_retired(name, data, retired=True)
    out.print(f"{name} is retired in {path}: new jobs on it are refused, models on it go on answering.", soft_wrap=True)


@base_models.command("unretire")
def unretire(name: BaseName, data: DataFolder = None) -> None:
    """Let jobs start from a retired base model again."""
    path = _set_retired(name, data, retired=False)
    out.print(f"{name} takes jobs again, as {path} says.", soft_wrap=True)


def _set_retired(name: str, data: Path | None, *, retired: bool) -> Path:
    """Return the file that was written. Raises CommandError rather than make one that no server reads."""
    settings = _settings(data)
    path = base_models_file.path_of(settings)
    if settings.base_models_file is None and not path.is_file() and not is_data_folder(path.parent):
        reason = f"{path.parent} is not the folder of a Graft: nothing was changed. Name the folder with --data"
        raise CommandError(reason=f"{reason}, or the servers' file in GRAFT_BASE_MODELS_FILE.")
    addition.set_retired(settings, name, retired)
    return path


def _settings(data: Path | None) -> Settings:
    settings = read_settings()
    # As `graft up --data` does: everything that is local is below this folder.
    return settings if data is None else settings.model_copy(update={"data_dir": data})


def _cost(ms: float, what: str) -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{ms:.1f} ms for {what}, on this machine ({cores} cores)"


def _languages(codes: tuple[str, ...]) -> str:
    return ", ".join(codes) if len(codes) <= 8 else f"{len(codes)}: {', '.join(codes[:8])}, …"


def _millions(value: Any) -> str:
    return f"{value / 1e6:.1f} M" if isinstance(value, int | float) else ""
