"""The commands `graft up`, `migrate`, `settings` and `login`, for the operator."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.panel import Panel
from rich.text import Text

from deploy import configuration
from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import DEFAULT_SERVER, Connection, normalise, write_config
from deploy.cli.errors import ApiRefused, CommandError
from deploy.cli.signals import interrupting, stop_event
from deploy.local.launcher import Deployment, Plan, Role
from models.settings import Settings, describe_faults

# How soon a process that ended is seen, and started again.
_ROUND_S = 0.1
_SAMPLE = Path(__file__).parent / "samples" / "tickets.csv"


def up(
    *,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one. (default: 8000)")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Folder for everything. (default: graft-data)")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. (default: 127.0.0.1)")] = None,
    role: Annotated[str, typer.Option(help="all, api, predictor or worker: which part to run here.")] = "all",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Jobs that train at the same time.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs here, too.")] = False,
) -> None:
    """Run Graft on this machine: API, predictor, worker and queue. Ctrl-C stops it."""
    settings = read_settings()
    plan = Plan(
        data=data or settings.data_dir,
        host=host or settings.host,
        port=settings.port if port is None else port,
        role=_role(role),
        workers=workers,
    )
    deployment = Deployment(plan, report=lambda line: console.err.print(Text(line, style="yellow")))
    stop = stop_event()
    # While it starts, a signal interrupts: there is nothing yet that needs an orderly end.
    with console.err.status("Starting …"), interrupting():
        deployment.start()
    try:
        _show_banner(deployment)
        while not stop.wait(_ROUND_S):
            if verbose:
                _show_logs(deployment)
            deployment.supervise()
    finally:
        with console.err.status("Stopping …"):
            deployment.stop()
        with contextlib.suppress(OSError):
            console.err.print("Stopped.")


def migrate(
    create_bucket: Annotated[
        bool, typer.Option("--create-bucket", help="Make the S3 bucket if it is missing.")
    ] = False,
) -> None:
    """Bring the database's schema up to date. Once per release, before its processes start."""
    from deploy.local import migrations  # noqa: PLC0415 - brings SQLAlchemy, which the client side does not need

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    settings = read_settings()
    migrations.migrate(settings)
    console.err.print("The schema is up to date.")
    if create_bucket:
        from deploy import bucket  # noqa: PLC0415 - brings boto3

        console.err.print(bucket.create(settings))


def show_settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of the README.")] = False,
) -> None:
    """List every setting: environment variable, default, meaning."""
    if markdown:
        sys.stdout.write(configuration.as_markdown())
        return
    rows = [[entry.variable, entry.default, entry.meaning] for entry in configuration.entries()]
    console.show_table(["variable", "default", "meaning"], [list(row) for row in rows], empty="No settings.")


def login(
    server: Annotated[str, typer.Option("--server", prompt=True, help="The API's address.")] = DEFAULT_SERVER,
    key: Annotated[str | None, typer.Option("--key", help="A customer's key; asked for if no key is given.")] = None,
    admin_key: Annotated[str | None, typer.Option("--admin-key", help="The operator's key.")] = None,
) -> None:
    """Keep a server and keys for the commands of this user, in a file that only they can read."""
    if key is None and admin_key is None:
        key = typer.prompt("A customer's key (not shown)", hide_input=True)
    server = normalise(server)
    for secret, path in ((key, "/v1/models"), (admin_key, "/v1/customers")):
        if secret:
            with Client(Connection(server, secret)) as client:
                try:
                    client.get(path, limit=1)
                except ApiRefused as error:
                    if error.http_status in (401, 403):
                        raise
    console.out.print(f"Kept in {write_config(server=server, key=key, admin_key=admin_key)}.")


def read_settings() -> Settings:
    """Return the settings from the environment. Raises CommandError that names the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        reason = f"The settings in the environment are wrong. {describe_faults(error)}"
        raise CommandError(reason=reason) from None


def _role(word: str) -> Role:
    match word:
        case "all" | "api" | "predictor" | "worker":
            return word
        case _:
            raise CommandError(reason=f"--role is all, api, predictor or worker; got {word!r}.")


def _show_logs(deployment: Deployment) -> None:
    for child in deployment.children:
        for line in child.new_lines():
            with contextlib.suppress(OSError):  # standard error may be a file on a disk that is full
                console.err.print(Text.assemble((f"{child.name:<9} ", "dim"), line))


def _show_banner(deployment: Deployment) -> None:
    plan, url = deployment.plan, deployment.url
    logs = Text(f"Data {deployment.folder.path} · logs {deployment.folder.logs}/ · Ctrl-C stops it", style="dim")
    if not plan.serves_http:
        console.err.print(Text(f"{plan.workers} worker(s) wait for jobs."), logs, sep="\n")
        return
    lines = [
        Text.assemble(("API       ", "dim"), (url, "bold")),
        Text.assemble(("Docs      ", "dim"), f"{url}/docs"),
    ]
    if plan.role != "predictor":
        lines.append(Text.assemble(("Operator  ", "dim"), deployment.shown_admin_key))
    console.err.print(Panel(Text("\n").join(lines), title="Graft is ready", title_align="left", expand=False))
    if plan.role != "predictor":
        console.err.print("First steps, in another terminal:\n")
        # Plain lines on purpose: people copy them.
        console.err.print(
            f"  export GRAFT_SERVER={url} GRAFT_ADMIN_KEY={deployment.shown_admin_key}\n"
            f"  graft customers create acme\n"
            f"  export GRAFT_API_KEY=$(graft keys create acme)\n"
            f"  graft train {_SAMPLE} --suffix tickets\n",
            soft_wrap=True,
        )
    console.err.print(logs)
