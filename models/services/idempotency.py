"""`Idempotency-Key`: the same key and body replay the first answer, the same key and another body are a conflict.

A route that creates a job hands a token to `jobs.submit`, which writes the job and the answer in one transaction.
Other routes call `begin` before their work, `hold` around it and `finish` or `abandon` after it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from models.errors import Unavailable
from models.records import idempotency
from models.records.clock import clock
from models.records.idempotency import IdempotentAnswer
from models.records.jobs import Job
from models.services.errors import IdempotencyMismatch, InvalidIdempotencyKey, RequestInProgress
from models.services.resources import Resources

KEEP_S = 24 * 3_600.0
# A first request that nobody has held for so long died with its process; the next one may take its place.
IN_PROGRESS_S = 60.0
# Four refusals of the database before a request that is alive is taken for dead.
REFRESH_S = 12.0
_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class IdempotencyToken:
    """A request that may be repeated. `render` makes the answer's body, which is stored with the job."""

    key: str
    request_sha256: str
    render: Callable[[Job], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer to the first request."""

    status: int
    body: dict[str, Any]


def begin(
    resources: Resources, scope: str, key: str, request_sha256: str, *, in_progress_s: float = IN_PROGRESS_S
) -> Replay | None:
    """Start a request that may be repeated; None: it is new, go on, and call `finish` or `abandon`.

    `scope` is the customer's id, or "operator". Raises IdempotencyMismatch, RequestInProgress, InvalidIdempotencyKey.
    """
    _check_key(key)
    with resources.database.transaction() as session:
        if _take(session, scope, key, request_sha256):
            return None
        row = idempotency.find(session, scope, key)
        if row is None:  # given up between the two statements
            raise RequestInProgress(key=key)
        replay = _judge(row, request_sha256)
        if replay is not None:
            return replay
        now = resources.database.now(session)
        if row.created_at > now - in_progress_s:
            raise RequestInProgress(key=key)
        row.created_at = now
        return None


@contextlib.contextmanager
def hold(resources: Resources, scope: str, key: str, *, refresh_s: float = REFRESH_S) -> Iterator[None]:
    """Keep a request that has begun from being taken for dead while the context lasts, be it for minutes."""
    done = threading.Event()

    def refresh() -> None:
        while not done.wait(refresh_s):
            # The work goes on without the database, and may end when it is back.
            with contextlib.suppress(Unavailable), resources.database.transaction() as session:
                idempotency.touch(session, scope, key)

    refresher = threading.Thread(target=refresh, name="idempotency", daemon=True)
    refresher.start()
    try:
        yield
    finally:
        done.set()
        refresher.join()


def finish(resources: Resources, scope: str, key: str, status: int, body: dict[str, Any]) -> None:
    """Store the answer, to be replayed for 24 hours."""
    with resources.database.transaction() as session:
        row = idempotency.find(session, scope, key)
        if row is not None:
            row.status, row.body = status, body


def abandon(resources: Resources, scope: str, key: str) -> None:
    """Forget a request that failed; the same key may try again."""
    with resources.database.transaction() as session:
        idempotency.remove(session, scope, key)


def find_in(session: Session, scope: str, token: IdempotencyToken) -> Replay | None:
    """Return the stored answer to this request, inside a transaction that holds the scope's lock.

    A row without an answer was made by `begin` for this very request. Raises IdempotencyMismatch.
    """
    _check_key(token.key)
    _take(session, scope, token.key, token.request_sha256)
    row = idempotency.find(session, scope, token.key)
    return None if row is None else _judge(row, token.request_sha256)


def store_in(session: Session, scope: str, token: IdempotencyToken, *, status: int, body: dict[str, Any]) -> None:
    """Write the answer in the transaction that makes it true."""
    row = idempotency.find(session, scope, token.key)
    if row is None:
        row = IdempotentAnswer(scope=scope, key=token.key, request_sha256=token.request_sha256, created_at=clock())
        session.add(row)
    row.status, row.body = status, body


def _take(session: Session, scope: str, key: str, request_sha256: str) -> bool:
    if idempotency.add(session, scope, key, request_sha256):
        return True
    # Answers are kept for a day, and the sweeper may not have removed this one yet.
    idempotency.expire(session, scope, key, older_than_s=KEEP_S)
    return idempotency.add(session, scope, key, request_sha256)


def _judge(row: IdempotentAnswer, request_sha256: str) -> Replay | None:
    if row.request_sha256 != request_sha256:
        raise IdempotencyMismatch(key=row.key)
    return None if row.status is None else Replay(status=row.status, body=row.body or {})


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= _KEY_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKey()
