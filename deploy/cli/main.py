"""The `graft` command: the operator's side (`up`, `customers`, `keys`) and the customer's (`train`, `predict`, …)."""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.cli import (
    accounts,
    audit,
    bases,
    catalog,
    data,
    demo,
    exporting,
    openai_import,
    prediction,
    running,
    tenants,
    training,
)
from deploy.cli.console import out, show_error
from deploy.cli.errors import CommandError
from models.errors import GraftError

_NO_OUTPUT = "Standard output is closed. Leave out >&-, or write to a file or to /dev/null."


class _Commands(TyperGroup):
    """Shows what went wrong as a message; a traceback is for bugs only. `graft jobs` and `graft job` are the same."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        for other in _other_numbers(cmd_name):
            found = found or super().get_command(ctx, other)
        return found

    def main(self, *args: Any, **extra: Any) -> Any:
        if sys.stdout is None:  # the next file that is opened would take its place, and be written into
            show_error(CommandError(reason=_NO_OUTPUT))
            sys.exit(1)
        try:
            try:
                return super().main(*args, **extra)
            finally:
                sys.stdout.flush()
        except OSError as error:
            _drop_output()
            if error.errno != errno.EPIPE:  # who reads the output may have enough
                show_error(CommandError(reason=_describe(error)))
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GraftError as error:
            show_error(error)
            raise typer.Exit(1) from None


def _drop_output() -> None:
    """Forget what the standard output did not take: Python would try it once more at its end, and say so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: OSError) -> str:
    what = "" if error.filename is None else f" {error.filename}"
    return f"Cannot read or write{what}: {error.strerror or error}."


def _other_numbers(word: str) -> tuple[str, ...]:
    """Return the singular and plurals of a command."""
    return word.removesuffix("s"), word.removesuffix("es"), f"{word}s", f"{word}es"


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(installed_version("graft"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Training as a service: POST a data set, get a fine-tuned model of your own at your own endpoint.

    Commands find the server and the key in --server and --key, in GRAFT_SERVER and GRAFT_API_KEY (GRAFT_ADMIN_KEY for
    the operator's), or where `graft login` kept them.
    """


_TRAIN, _SERVE, _RUN = "Train", "Models", "Run a Graft"

app.command("check", rich_help_panel=_TRAIN)(data.check)
app.command("train", rich_help_panel=_TRAIN)(training.train)
app.command("import-openai", rich_help_panel=_TRAIN)(openai_import.import_openai)
app.command("jobs", rich_help_panel=_TRAIN)(training.jobs)
app.command("watch", rich_help_panel=_TRAIN)(training.watch)
app.command("cancel", rich_help_panel=_TRAIN)(training.cancel)
app.command("pause", rich_help_panel=_TRAIN)(training.pause)
app.command("resume", rich_help_panel=_TRAIN)(training.resume)
app.command("files", rich_help_panel=_TRAIN)(data.files)
app.command("delete-file", rich_help_panel=_TRAIN)(data.delete_file)

app.command("predict", rich_help_panel=_SERVE)(prediction.predict)
app.command("models", rich_help_panel=_SERVE)(catalog.models)
app.command("versions", rich_help_panel=_SERVE)(catalog.versions)
app.command("aliases", rich_help_panel=_SERVE)(catalog.aliases)
app.command("promote", rich_help_panel=_SERVE)(catalog.promote)
app.command("rollback", rich_help_panel=_SERVE)(catalog.rollback)
app.command("export", rich_help_panel=_SERVE)(exporting.export)
app.command("delete-model", rich_help_panel=_SERVE)(catalog.delete_model)
app.command("delete-version", rich_help_panel=_SERVE)(catalog.delete_version)
app.command("delete-alias", rich_help_panel=_SERVE)(catalog.delete_alias)
app.add_typer(bases.base_models, name="base-models", rich_help_panel=_SERVE)
app.command("usage", rich_help_panel=_SERVE)(data.usage)

app.command("up", rich_help_panel=_RUN)(running.up)
app.command("demo", rich_help_panel=_RUN)(demo.demo)
tenants.customers.command("limit")(accounts.limit)
tenants.customers.command("suspend")(accounts.suspend)
tenants.customers.command("resume")(accounts.resume)
app.add_typer(tenants.customers, name="customers", rich_help_panel=_RUN)
app.add_typer(tenants.keys, name="keys", rich_help_panel=_RUN)
app.command("audit", rich_help_panel=_RUN)(audit.audit)
app.command("login", rich_help_panel=_RUN)(running.login)
app.command("settings", rich_help_panel=_RUN)(running.show_settings)
app.command("migrate", rich_help_panel=_RUN)(running.migrate)


if __name__ == "__main__":
    app()
