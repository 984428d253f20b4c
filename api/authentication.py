"""The caller of a request: the operator, or a customer through one of its keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import structlog
from fastapi import Depends, Request
from pydantic import SecretStr

from api import context
from api.callers import OPERATOR, Operator, address_of
from models.errors import Forbidden, Unauthenticated
from models.services.access.errors import CustomerSuspended, InsufficientScope
from models.services.access.resolver import Principal
from models.services.access.scopes import KeyScope

Audience = Literal["customer", "operator"]


class NoKey(Unauthenticated):
    """The request carries no key, or not as a bearer token."""

    message = (
        "You did not provide an API key. Send it in the header 'Authorization: Bearer gr-...' "
        "(the openai SDK: OpenAI(base_url=..., api_key=...))."
    )


class WrongToken(Unauthenticated):
    """The request carries another token than the one that the route asks for."""

    message = "Incorrect token. This route asks for the one in GRAFT_METRICS_TOKEN."


class OperatorOnly(Forbidden):
    """A customer's key on a route of the operator's."""

    message = "This route is the operator's. A customer's key may not use it."


class CustomerOnly(Forbidden):
    """The operator's key on a route that needs a customer."""

    message = (
        "The operator's key speaks for no customer. Use a customer's key: "
        "POST /v1/customers creates a customer, POST /v1/customers/{{id}}/keys issues a key."
    )


@dataclass(frozen=True, slots=True)
class Guard:
    """Whose key a route is for, and the scopes of which a customer's key needs one."""

    audience: Audience
    scopes: tuple[KeyScope, ...] = ()


async def admit(request: Request, guard: Guard) -> None:
    """Authenticate the caller, count the request against its limit, and check that the route is for it.

    Sets `request.state.caller`. Raises NoKey, an error of the key directory, RateLimited, OperatorOnly, CustomerOnly,
    InsufficientScope.
    """
    parts = context.of(request)
    secret = _bearer_token(request)
    caller: Principal | Operator
    if _is_same(parts.settings.admin_key, secret):
        caller = Operator()
        structlog.contextvars.bind_contextvars(caller=OPERATOR)
        parts.limits.admit(request.scope, OPERATOR)
    else:
        caller = await _customer(request, secret)
        structlog.contextvars.bind_contextvars(customer_id=caller.customer_id, key_id=caller.key_id)
        parts.limits.admit(request.scope, caller.customer_id)
    if isinstance(caller, Operator):
        if guard.audience == "customer":
            raise CustomerOnly()
    elif guard.audience == "operator":
        raise OperatorOnly()
    elif caller.scopes.isdisjoint(guard.scopes):
        raise InsufficientScope(needed=_listed(guard.scopes), got=" and ".join(sorted(caller.scopes)) or "none")
    request.state.caller = caller


async def _customer(request: Request, secret: str) -> Principal:
    """Return whose key it is; an address that keeps sending wrong ones no longer makes the database search for them."""
    parts = context.of(request)
    address = address_of(request)
    if not parts.knows(secret):  # a key in use goes on working beside an attacker behind the same proxy
        parts.failed_logins.check(address)
    try:
        return await parts.authenticate(secret)
    except Unauthenticated:
        parts.failed_logins.count(address)
        raise


async def is_still_admitted(request: Request) -> bool:
    """Whether the key of a request is still valid, from the same cache: for answers that take long.

    Raises Unavailable where nobody can tell, as the database is away.
    """
    try:
        await context.of(request).authenticate(_bearer_token(request))
    except (Unauthenticated, CustomerSuspended):
        return False
    return True


def require_token(request: Request, token: SecretStr) -> None:
    """Raise NoKey or WrongToken unless the request carries the token."""
    if not _is_same(token, _bearer_token(request)):
        raise WrongToken()


def customer_of(request: Request) -> Principal:
    """Return the customer that `admit` has authenticated."""
    return cast("Principal", request.state.caller)


Caller = Annotated[Principal, Depends(customer_of)]


def _bearer_token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NoKey()
    return token.strip()


def _is_same(expected: SecretStr | None, secret: str) -> bool:
    if expected is None:
        return False
    return secrets.compare_digest(expected.get_secret_value().encode(), secret.encode())


def _listed(scopes: Iterable[str]) -> str:
    return " or ".join(f"'{scope}'" for scope in scopes) or "none"
