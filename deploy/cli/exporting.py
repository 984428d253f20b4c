"""`graft export`: a version of a model that writes as a PEFT adapter folder, for other programs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out
from deploy.cli.lookup import suggesting_models


def export(
    name: Annotated[str, typer.Argument(help="A model's name, or name@3.", metavar="MODEL")],
    *,
    to: Annotated[Path, typer.Option("--to", help="Where the adapter's folder is put.")] = Path(),
    server: Server = None,
    key: Key = None,
) -> None:
    """Download a model that writes as a PEFT adapter: `peft`, vLLM and others load it beside the same base."""
    with Client(as_customer(server, key)) as client, suggesting_models(client, name):
        content = client.download(f"/v1/models/{name}/export")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(to)  # by name only: Python leaves out what would point elsewhere
        folder = to / archive.namelist()[0].partition("/")[0]
    out.print(str(folder))
