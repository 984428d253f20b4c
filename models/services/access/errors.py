"""Reasons for which a key is refused."""

from __future__ import annotations

from models.errors import Forbidden, Unauthenticated


class InvalidKey(Unauthenticated):
    """A key that does not exist: 401."""

    message = "Incorrect API key provided. The operator issues keys: POST /v1/customers/{{id}}/keys."


class KeyRevoked(InvalidKey):
    """The key was revoked: 401."""

    message = "This API key was revoked. Ask the operator for a new one."


class KeyExpired(InvalidKey):
    """The key's time is over: 401."""

    message = "This API key has expired. Ask the operator for a new one, or to rotate it in time."


class InsufficientScope(Forbidden):
    """The key is valid and lacks the scope that the route asks for: 403."""

    message = (
        "This route needs a key with the scope {needed}; this key has {got}. "
        "A key with 'manage' issues others within its own scopes (POST /v1/keys), and the operator any."
    )


class CustomerSuspended(Forbidden):
    """The operator suspended the key's customer: 403."""

    message = (
        "The operator has suspended this customer. Its models, files and keys are kept; they work again when the "
        "operator resumes it."
    )
