"""`graft customers limit/suspend/resume`: what the operator allows a customer."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli.client import Client
from deploy.cli.connection import AdminKey, Server, as_operator
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError
from deploy.cli.lookup import customer_id, suggestion
from deploy.cli.tenants import CustomerRef


def limit(
    customer: CustomerRef,
    pairs: Annotated[
        list[str] | None, typer.Argument(help="Limits to set: files=500, models=default.", metavar="[NAME=NUMBER]...")
    ] = None,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Show a customer's quotas, after setting those that are named."""
    with Client(as_operator(server, key)) as client:
        path = f"/v1/customers/{customer_id(client, customer)}"
        rows = client.get(f"{path}/limits")["data"]
        if pairs:
            known = [str(row["name"]) for row in rows]
            client.patch(path, {"limits": dict(_parse(pair, known) for pair in pairs)})
            rows = client.get(f"{path}/limits")["data"]
    show_table(["quota", "used", "limit", ""], [_describe(row) for row in rows], empty="No quotas.")


def suspend(customer: CustomerRef, server: Server = None, key: AdminKey = None) -> None:
    """Refuse a customer's keys and pause its jobs, until it is resumed."""
    _set_suspended(customer, server, key, suspended=True)
    out.print(f"{customer} is suspended: its keys are refused within seconds, its jobs are paused.")


def resume(customer: CustomerRef, server: Server = None, key: AdminKey = None) -> None:
    """Let a suspended customer work again."""
    _set_suspended(customer, server, key, suspended=False)
    out.print(f"{customer} works again; the jobs that were paused with it are queued.")


def _set_suspended(customer: str, server: str | None, key: str | None, *, suspended: bool) -> None:
    with Client(as_operator(server, key)) as client:
        client.patch(f"/v1/customers/{customer_id(client, customer)}", {"suspended": suspended})


def _parse(pair: str, known: list[str]) -> tuple[str, int | None]:
    name, _, value = pair.partition("=")
    if name not in known:
        raise CommandError(reason=f"'{name}' is no quota.{suggestion(name, known)}")
    if value == "default":
        return name, None
    if not value.isdecimal():
        raise CommandError(reason=f"{name}={value or '…'}: write a whole number, or default.")
    return name, int(value)


def _describe(row: dict[str, Any]) -> list[Any]:
    limit = "none" if row["limit"] is None else f"{row['limit']:,}"
    own = Text("default", style="dim") if row["default"] else Text("its own")
    return [row["name"], f"{row['used']:,}", limit, own]
