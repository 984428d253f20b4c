"""`graft customers …` and `graft keys …`, for the operator."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import AdminKey, Server, as_operator, write_config
from deploy.cli.console import out, show_table
from deploy.cli.lookup import customer_id, key_id

customers = typer.Typer(no_args_is_help=True, help="Create, limit, suspend and delete customers (operator's key).")
keys = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke a customer's keys (operator's key).")

CustomerRef = Annotated[str, typer.Argument(help="A customer's id or name.", metavar="CUSTOMER")]
KeyRef = Annotated[str, typer.Argument(help="A key's id or name.", metavar="KEY")]


@customers.command("create")
def create_customer(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, '.', '_', '-'.", metavar="NAME")],
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Create a customer."""
    with Client(as_operator(server, key)) as client:
        found = client.post("/v1/customers", {"name": name})
    out.print(found["id"])
    console.err.print(Text(f"`graft keys create {name}` gives it a key.", style="dim"))


@customers.command("list")
def list_customers(server: Server = None, key: AdminKey = None) -> None:
    """List customers."""
    with Client(as_operator(server, key)) as client:
        rows = [
            [
                found["id"],
                found["name"],
                console.when(found["created_at"]),
                Text("suspended", style="red") if found.get("suspended_at") else "",
            ]
            for found in client.each("/v1/customers")
        ]
    show_table(["id", "name", "created", ""], rows, empty="No customers yet: graft customers create NAME")


@customers.command("delete")
def delete_customer(
    customer: CustomerRef,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Delete a customer with everything it has: keys, files, jobs, models."""
    if not yes:
        typer.confirm(f"Delete {customer} with its keys, files, jobs and models?", abort=True)
    with Client(as_operator(server, key)) as client:
        found = client.delete(f"/v1/customers/{customer_id(client, customer)}")
    removed = ", ".join(f"{count} {kind}" for kind, count in found.get("removed", {}).items() if count)
    out.print(f"{customer} is deleted. Removed: {removed or 'nothing else'}.")
    if not found.get("complete", True):
        console.err.print(Text("The object store was away: what it holds goes with a later sweep.", style="yellow"))


@keys.command("create")
def create_key(
    customer: CustomerRef,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do: predict, train or manage; may be repeated. Without one, everything."),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep it for the commands of this user.")] = False,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Issue a key. It is shown once."""
    connection = as_operator(server, key)
    with Client(connection) as client:
        body = {"name": name, **({"scopes": scope} if scope else {})}
        found = client.post(f"/v1/customers/{customer_id(client, customer)}/keys", body)
    out.print(found["key"])
    console.err.print(Text(f"{found['id']}, shown this once.", style="dim"))
    if save:
        path = write_config(server=connection.server, key=found["key"])
        console.err.print(Text(f"Kept in {path}.", style="dim"))


@keys.command("list")
def list_keys(
    customer: CustomerRef,
    *,
    status: Annotated[
        list[str] | None, typer.Option(help="Only keys in this state: valid, expired, revoked. Repeat it for several.")
    ] = None,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """List a customer's keys."""
    with Client(as_operator(server, key)) as client:
        rows = [
            [
                found["id"],
                found["name"],
                f"{found['prefix']}…",
                " ".join(found["scopes"]),
                console.when(found["created_at"]),
                console.when(found.get("last_used_at")) or "never",
                console.when(found.get("expires_at")) or "never",
                _state(found),
            ]
            for found in client.each(f"/v1/customers/{customer_id(client, customer)}/keys", status=status)
        ]
    show_table(["id", "name", "key", "may", "created", "last used", "expires", ""], rows, empty="No keys yet.")


@keys.command("rotate")
def rotate_key(
    customer: CustomerRef,
    reference: KeyRef,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that the old key stays valid.")] = 0,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Replace a key by a new one."""
    with Client(as_operator(server, key)) as client:
        owner = customer_id(client, customer)
        path = f"/v1/customers/{owner}/keys/{key_id(client, owner, reference)}/rotate"
        found = client.post(path, {"grace_seconds": grace})
    out.print(found["key"])
    ends = f"ends in {grace:,.0f} s" if grace else "has ended: --grace 3600 would let it live for an hour"
    console.err.print(Text(f"{found['id']}, shown this once. The old key {ends}.", style="dim"))


@keys.command("revoke")
def revoke_key(customer: CustomerRef, reference: KeyRef, server: Server = None, key: AdminKey = None) -> None:
    """Revoke a key at once."""
    with Client(as_operator(server, key)) as client:
        owner = customer_id(client, customer)
        found = client.delete(f"/v1/customers/{owner}/keys/{key_id(client, owner, reference)}")
    out.print(f"{found['id']} is revoked.")


def _state(found: dict[str, Any]) -> Text:
    if found.get("revoked_at"):
        return Text("revoked", style="red")
    expires_at = found.get("expires_at")
    return Text("expired", style="yellow") if expires_at and expires_at <= time.time() else Text("valid", style="green")
