"""API keys: issued, rotated, revoked, and found by their hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from models.identifiers import new_id, new_secret
from models.records import changes, customers, keys
from models.records.keys import ApiKey
from models.records.pages import Page
from models.services.errors import InvalidName, KeyNotActive
from models.services.resources import Resources

_PREFIX_CHARS = 10
_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its secret, which exists only now."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The part of a key that authentication needs."""

    key_id: str
    customer_id: str
    customer_name: str
    expires_at: float | None
    revoked_at: float | None


def hash_secret(secret: str) -> str:
    """Return the SHA-256 by which a secret is found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def issue(resources: Resources, customer_id: str, *, name: str, expires_at: float | None = None) -> IssuedKey:
    """Make a key; raises NotFound for the customer."""
    if not 1 <= len(name) <= _NAME_CHARS:
        raise InvalidName(name=name[:80], kind="key", param="name")
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        issued = _make(customer_id, name, expires_at, resources.database.now(session))
        session.add(issued.key)
        # A predictor may have cached that no key has this hash.
        changes.record(session, "key", issued.key.hash)
    return issued


def list_page(resources: Resources, customer_id: str, *, after: str | None = None, limit: int = 20) -> Page[ApiKey]:
    """Return the customer's keys, newest first; raises NotFound."""
    with resources.database.reading() as session:
        customers.require(session, customer_id)
        return keys.fetch_list(session, customer_id, after=after, limit=limit)


def rotate(resources: Resources, customer_id: str, key_id: str, *, grace_s: float = 0) -> IssuedKey:
    """Make a successor of the same name; the old key expires after the grace. Raises NotFound, KeyNotActive."""
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        old = keys.require(session, customer_id, key_id)
        now = resources.database.now(session)
        if old.revoked_at is not None:
            raise KeyNotActive(id=key_id, state="revoked")
        if old.expires_at is not None and old.expires_at <= now:
            raise KeyNotActive(id=key_id, state="expired")
        issued = _make(customer_id, old.name, old.expires_at, now)
        session.add(issued.key)
        if grace_s > 0:
            old.expires_at = min(now + grace_s, old.expires_at or float("inf"))
        else:
            old.revoked_at = now
        changes.record(session, "key", old.hash)
        changes.record(session, "key", issued.key.hash)
    return issued


def revoke(resources: Resources, customer_id: str, key_id: str) -> ApiKey:
    """End a key now; again is no error. Raises NotFound."""
    with resources.database.transaction() as session:
        key = keys.require(session, customer_id, key_id)
        if key.revoked_at is None:
            key.revoked_at = resources.database.now(session)
            changes.record(session, "key", key.hash)
    return key


def find(resources: Resources, secret_sha256: str) -> KeyRecord | None:
    """Return the key with this hash, also if it has expired or was revoked: the caller looks at its times."""
    with resources.database.reading() as session:
        found = keys.find_by_hash(session, secret_sha256)
    if found is None:
        return None
    key, customer_name = found
    return KeyRecord(key.id, key.customer_id, customer_name, key.expires_at, key.revoked_at)


def touch(resources: Resources, used: dict[str, float]) -> None:
    """Note when keys were last used: key id → Unix seconds."""
    if not used:
        return
    with resources.database.transaction() as session:
        keys.touch(session, sorted(used.items()))  # sorted: two predictors that note the same keys do not deadlock


def _make(customer_id: str, name: str, expires_at: float | None, now: float) -> IssuedKey:
    secret = new_secret()
    key = ApiKey(
        id=new_id("key_"),
        customer_id=customer_id,
        name=name,
        prefix=secret[:_PREFIX_CHARS],
        hash=hash_secret(secret),
        created_at=now,
        expires_at=expires_at,
    )
    return IssuedKey(key=key, secret=secret)
