"""Callers of requests: the operator, or a customer through one of its keys; and from where."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from api.request_ids import request_id_of
from models.records.audit import Actor

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Operator:
    """The holder of the operator's key."""


def actor_of(request: Request) -> Actor:
    """Return who acts in a request that was admitted, for the audit log."""
    caller = request.state.caller
    name = OPERATOR if isinstance(caller, Operator) else caller.key_id
    return Actor(name, address_of(request), request_id_of(request.scope))


def address_of(request: Request) -> str:
    """Return the address of the client, as the nearest proxy that is trusted names it."""
    return request.client.host if request.client else ""
