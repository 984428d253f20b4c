"""API keys: issued, rotated, revoked, and found by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from models.identifiers import new_id, new_secret
from models.records import audit, changes, customers, keys
from models.records.keys import ApiKey, KeyStatus
from models.records.pages import Page
from models.services import quotas
from models.services.access.scopes import SCOPES
from models.services.errors import InvalidName, KeyEndsBefore, KeyNotActive, KeyOutreaches
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
    scopes: frozenset[str]
    suspended: bool = False  # its customer


def hash_secret(secret: str) -> str:
    """Return the SHA-256 by which a secret is found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key that issues another one may give away: its own scopes, for no longer than it lives itself."""

    scopes: Collection[str] = SCOPES
    expires_at: float | None = None


def issue(
    resources: Resources,
    customer_id: str,
    *,
    name: str,
    scopes: Collection[str] | None = None,
    expires_at: float | None = None,
    within: KeyLimits = KeyLimits(),
) -> IssuedKey:
    """Make a key, with all that `within` allows unless less is asked for.

    Raises NotFound, KeyOutreaches, KeyEndsBefore, QuotaExceeded.
    """
    granted = _ordered(within.scopes if scopes is None else scopes)
    if within.expires_at is not None:
        expires_at = within.expires_at if expires_at is None else expires_at
    if not 1 <= len(name) <= _NAME_CHARS:
        raise InvalidName(name=name[:80], kind="key", param="name")
    if more := [scope for scope in granted if scope not in within.scopes]:
        raise KeyOutreaches(reason=f"it lacks the scope {', '.join(more)}", param="scopes")
    if within.expires_at is not None and expires_at is not None and expires_at > within.expires_at:
        raise KeyOutreaches(reason="it ends before that", param="expires_at")
    with resources.database.transaction() as session:
        customer = customers.lock(session, customer_id)
        now = resources.database.now(session)
        if expires_at is not None and expires_at <= now:
            raise KeyEndsBefore(got=expires_at, now=now)
        quotas.check(session, resources.settings, customer, {"keys": 1})
        issued = _make(customer_id, name, granted, expires_at, now)
        session.add(issued.key)
        audit.record(session, resources.actor, "key.created", customer_id, issued.key.id, after={"scopes": granted})
        # A predictor may have cached that no key has this hash.
        changes.record(session, "key", issued.key.hash)
    return issued


def list_page(
    resources: Resources,
    customer_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    status: Collection[KeyStatus] = (),
) -> Page[ApiKey]:
    """Return the customer's keys in one of these states, in any if none is named, newest first; raises NotFound."""
    with resources.database.reading() as session:
        customers.require(session, customer_id)
        return keys.fetch_list(session, customer_id, after=after, limit=limit, status=status)


def rotate(resources: Resources, customer_id: str, key_id: str, *, grace_s: float = 0) -> IssuedKey:
    """Make a successor of the same name; the old key expires after the grace.

    While a grace lasts there is one key more, and so there may be one more than the quota: who has all keys that it may
    have can still rotate. Only one, or they would pile up; without a grace a key can always be replaced.

    Raises NotFound, KeyNotActive, QuotaExceeded.
    """
    with resources.database.transaction() as session:
        customer = customers.lock(session, customer_id)
        old = keys.require(session, customer_id, key_id)
        now = resources.database.now(session)
        if old.revoked_at is not None:
            raise KeyNotActive(id=key_id, state="revoked")
        if old.expires_at is not None and old.expires_at <= now:
            raise KeyNotActive(id=key_id, state="expired")
        if grace_s > 0:
            quotas.check(session, resources.settings, customer, {"keys": 0})
        issued = _make(customer_id, old.name, old.scopes, old.expires_at, now)
        session.add(issued.key)
        if grace_s > 0:
            old.expires_at = min(now + grace_s, old.expires_at or float("inf"))
        else:
            old.revoked_at = now
        changes.record(session, "key", old.hash)
        changes.record(session, "key", issued.key.hash)
        ends_at = {"ends_at": old.revoked_at or old.expires_at}
        audit.record(
            session, resources.actor, "key.rotated", customer_id, key_id, before=ends_at, after={"key": issued.key.id}
        )
    return issued


def revoke(resources: Resources, customer_id: str, key_id: str) -> ApiKey:
    """End a key now; again is no error. Raises NotFound."""
    with resources.database.transaction() as session:
        key = keys.require(session, customer_id, key_id)
        if key.revoked_at is None:
            key.revoked_at = resources.database.now(session)
            changes.record(session, "key", key.hash)
            audit.record(session, resources.actor, "key.revoked", customer_id, key_id)
    return key


def find(resources: Resources, secret_sha256: str) -> KeyRecord | None:
    """Return the key with this hash, also if it has expired or was revoked: the caller looks at its times."""
    with resources.database.reading() as session:
        found = keys.find_by_hash(session, secret_sha256)
    if found is None:
        return None
    key, customer = found
    return KeyRecord(
        key_id=key.id,
        customer_id=key.customer_id,
        customer_name=customer.name,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        scopes=frozenset(key.scopes),
        suspended=customer.suspended_at is not None,
    )


def touch(resources: Resources, used: dict[str, float]) -> None:
    """Note when keys were last used: key id → Unix seconds."""
    if not used:
        return
    with resources.database.transaction() as session:
        keys.touch(session, sorted(used.items()))  # sorted: two predictors that note the same keys do not deadlock


def _ordered(scopes: Collection[str]) -> list[str]:
    return [scope for scope in SCOPES if scope in scopes]


def _make(customer_id: str, name: str, scopes: list[str], expires_at: float | None, now: float) -> IssuedKey:
    secret = new_secret()
    key = ApiKey(
        id=new_id("key_"),
        customer_id=customer_id,
        name=name,
        prefix=secret[:_PREFIX_CHARS],
        hash=hash_secret(secret),
        scopes=scopes,
        created_at=now,
        expires_at=expires_at,
    )
    return IssuedKey(key=key, secret=secret)
