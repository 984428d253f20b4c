"""`graft models`, `versions`, `aliases`, `promote`, `rollback`, and what deletes them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, PromoteOption, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.errors import ApiRefused, CommandError
from deploy.cli.lookup import JOBS, suggesting_models
from deploy.cli.reports import learning_curve_line, refinement_line, score_of, show_report

Model = Annotated[str, typer.Argument(help="A model's name.", metavar="MODEL")]
Alias = Annotated[str, typer.Option("--alias", help="The alias to move; `live` answers when no version is named.")]
OneNumber = Annotated[int | None, typer.Argument(help="A version's number, unless MODEL has it.", metavar="VERSION")]


def models(
    name: Annotated[
        str | None, typer.Argument(help="A model's name, or name@3; without one, all are listed.", metavar="MODEL")
    ] = None,
    *,
    promote: PromoteOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole version with its report as JSON.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """List your models, or show one: how good it is, class by class, and what may be wrong with its data."""
    with Client(as_customer(server, key)) as client:
        if name is not None:
            with suggesting_models(client, name):
                if promote is not None:
                    client.patch(f"/v1/models/{name}", {"promote": promote})
                _show_model(client, name, as_json=as_json)
            return
        rows = [
            [found.get("name"), found["id"], found.get("version"), found.get("task"), console.when(found["created"])]
            for found in client.each("/v1/models")
            if found.get("kind") != "base"
        ]
    show_table(["name", "id", "live", "task", "created"], rows, empty="No models yet: graft train FILE")


def versions(model: Model, server: Server = None, key: Key = None) -> None:
    """List a model's versions."""
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        rows = [
            [
                found["version"],
                Text("live", style="green") if found.get("live") else "",
                found.get("candidate"),
                _figure(found.get("metrics", {}).get("score")),
                f"{found.get('bytes', 0) / 1024:,.0f} kB",
                found.get("job"),
                console.when(found["created_at"]),
            ]
            for found in client.each(f"/v1/models/{model}/versions")
        ]
    show_table(["version", "", "strategy", "score", "size", "job", "created"], rows, empty="No versions yet.")


def aliases(model: Model, server: Server = None, key: Key = None) -> None:
    """List a model's aliases: which versions answer to which names."""
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        rows = [
            [found["id"], found["version"], found["previous"] or "", console.when(found["updated_at"])]
            for found in client.get(f"/v1/models/{model}/aliases")["data"]
        ]
    show_table(["alias", "version", "before", "since"], rows, empty="No aliases yet.")


def promote(
    model: Model,
    version: OneNumber = None,
    *,
    alias: Alias = "live",
    server: Server = None,
    key: Key = None,
) -> None:
    """Let a version answer from now on: `promote tickets 1`, or `promote tickets@1`."""
    name, number = _pinned(model, version)
    _point(name, alias, number, server, key)


def rollback(model: Model, *, alias: Alias = "live", server: Server = None, key: Key = None) -> None:
    """Let the version answer that answered before; again goes back one step further."""
    _point(model, alias, "previous", server, key)


def delete_model(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Delete a model with all of its versions. Their numbers are not used again, not by a new model of its name."""
    if not yes:
        typer.confirm(f"Delete {model} and all of its versions?", abort=True)
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        client.delete(f"/v1/models/{model}")
    out.print(f"{model} is deleted.")


def delete_version(model: Model, version: OneNumber = None, server: Server = None, key: Key = None) -> None:
    """Delete a version that no alias points at. Its number is not used again."""
    name, number = _pinned(model, version)
    with Client(as_customer(server, key)) as client, suggesting_models(client, name):
        client.delete(f"/v1/models/{name}/versions/{number}")
    out.print(f"{name}@{number} is deleted.")


def delete_alias(
    model: Model,
    alias: Annotated[
        str | None, typer.Argument(help="An alias other than live, unless MODEL has it.", metavar="ALIAS")
    ] = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Delete an alias. The version that it points at stays."""
    name, at, pinned = model.partition("@")
    alias = alias or pinned
    if not alias or (at and pinned != alias):
        raise CommandError(reason=f"Which alias? Say `delete-alias {name} ALIAS`, or {name}@ALIAS.")
    with Client(as_customer(server, key)) as client, suggesting_models(client, name):
        client.delete(f"/v1/models/{name}/aliases/{alias}")
    out.print(f"{name}@{alias} is deleted.")


def _pinned(model: str, version: int | None) -> tuple[str, int]:
    """Return name and number of `tickets 1` and of `tickets@1`; raises CommandError for neither, or both."""
    name, at, pinned = model.partition("@")
    if at and pinned.isascii() and pinned.isdecimal() and version in (None, int(pinned)):
        return name, int(pinned)
    if at or version is None:
        raise CommandError(reason=f"Which version? Name it by its number: {name} 1, or {name}@1.")
    return name, version


def _show_model(client: Client, name: str, *, as_json: bool) -> None:
    model = client.get(f"/v1/models/{name}")
    if model.get("kind") == "base":
        console.show_lines(
            [(field, model.get(field)) for field in ("id", "modality", "parameters", "width", "max_tokens", "licence")]
        )
        return
    every = list(client.each(f"/v1/models/{model['id']}/versions"))
    shown = next((version for version in every if version["version"] == model["version"]), None)
    if as_json:
        console.show_json({**model, "versions": [version["version"] for version in every], "shown": shown})
        return
    report = _whole_report(client, shown or {})
    console.show_lines(
        [
            ("model", model["id"]),
            ("task", model.get("task")),
            ("base", model.get("base_model")),
            ("version", _which(model, every)),
            ("strategy", (shown or {}).get("candidate")),
            ("score", score_of(report)),
            ("baseline", _figure((report.get("baseline") or {}).get("gate"))),
            ("rows", (report.get("data") or {}).get("rows")),
            ("job", (shown or {}).get("job")),
            ("promote", model.get("promote")),
            ("more rows", learning_curve_line(report)),
            ("refined", refinement_line(report)),
        ]
    )
    show_report(report)


def _whole_report(client: Client, version: dict[str, Any]) -> dict[str, Any]:
    """A version's report with what its job found out after it was published: how refinement went, and what it cost."""
    report = version.get("report") or {}
    try:
        job = client.get(f"{JOBS}/{version['job']}") if version else {}
    except ApiRefused:
        job = {}
    later = job.get("report") or {}
    return {**report, **{name: later[name] for name in ("refinement", "strategies_tried") if name in later}}


def _which(model: dict[str, Any], every: list[dict[str, Any]]) -> str:
    live = next((version["version"] for version in every if version["live"]), None)
    number = model.get("version")
    state = "live" if number == live else f"live: {live}"
    return f"{number} of {len(every)} ({state})" if number is not None else "none yet"


def _point(model: str, alias: str, version: int | str, server: str | None, key: str | None) -> None:
    path = f"/v1/models/{model}/aliases"
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        # The answer's `previous` is where the next roll-back goes, which after a roll-back is not what answered before.
        before = next((each["version"] for each in client.get(path)["data"] if each["id"] == alias), None)
        found = client.put(f"{path}/{alias}", {"version": version})
    name = "" if alias == "live" else f"@{alias}"
    if before == found["version"]:
        out.print(f"{found['model']}{name}: version {before} answers, as before.")
        return
    instead = "none did before" if before is None else f"before: version {before}"
    out.print(f"{found['model']}{name}: version {found['version']} answers now ({instead}).")


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""
