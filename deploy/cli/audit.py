"""`graft audit`, for the operator: what was done, by whom and from where."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import AdminKey, Server, as_operator
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError
from deploy.cli.lookup import customer_id

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def audit(
    *,
    customer: Annotated[str | None, typer.Option(help="Only a customer's: its id or name.")] = None,
    action: Annotated[str | None, typer.Option(help="Only one action, as in key.revoked.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by operator, system, or a key's id.")] = None,
    since: Annotated[str | None, typer.Option(help="2026-01-31, 2026-01-31T12:00, or 30m, 12h, 7d ago.")] = None,
    until: Annotated[str | None, typer.Option(help="As --since.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    server: Server = None,
    key: AdminKey = None,
) -> None:
    """Show what was done, the newest first: keys, customers, files, jobs, versions, aliases."""
    only: dict[str, Any] = {"action": action, "actor": actor, "since": _instant(since), "until": _instant(until)}
    with Client(as_operator(server, key)) as client:
        if customer is not None:
            # A deleted customer has its id alone, and no name to be found by.
            only["customer"] = customer if customer.startswith("cus_") else customer_id(client, customer)
        events = list(client.each("/v1/audit", most=limit, **only))
    if as_json:
        for event in events:
            out.print(json.dumps(event), soft_wrap=True)
        return
    rows = [
        [
            console.when(event["created_at"]),
            event["action"],
            event["target"],
            event["customer_id"],
            event["actor"],
            event["address"],
            _change(event),
        ]
        for event in events
    ]
    columns = ["when", "action", "target", "customer", "by", "from", "change"]
    show_table(columns, rows, empty="Nothing was done that fits.")


def _change(event: dict[str, Any]) -> str:
    sides = [json.dumps(side) if side else "" for side in (event["before"], event["after"])]
    return " → ".join(sides) if all(sides) else "".join(sides)


def _instant(text: str | None) -> float | None:
    """Return Unix seconds for a local time, or for how long ago."""
    if text is None:
        return None
    if text[:-1].isdecimal() and text[-1] in _UNITS_S:
        return time.time() - int(text[:-1]) * _UNITS_S[text[-1]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandError(reason=f"{text!r} is no time. Write 2026-01-31, 2026-01-31T12:00, or 12h.") from None
