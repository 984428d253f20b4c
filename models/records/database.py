"""The connection to the database: SQLite on one machine, PostgreSQL in production, the same code above."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy import exc as sql_errors
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from models.errors import InvalidRequest, Unavailable
from models.records.clock import read_clock

BUSY_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5
_LOG_TIMEOUT_MS = 1_000
_PG_DISK_FULL = "53100"


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, is restarting, or is locked for too long: 503."""

    message = "The database cannot be reached right now. Try again."


class DiskFull(DatabaseUnavailable):
    """The database has no room for what was sent: 507. Nothing of it was kept."""

    status = 507
    retry_after_s = 30.0
    message = "The database has no disk space left for this. Nothing was kept; try again later."


class SchemaOutdated(Unavailable):
    """The schema is older than what this release's processes read and write: 503."""

    message = "The schema is {found}, and this release needs {needed}. Run `graft migrate`."


class UnstorableValue(InvalidRequest):
    """A text that no database column can hold: a NUL character, half of a surrogate pair, a number out of range."""

    message = (
        "The request holds a character or a number that cannot be stored (NUL, a lone surrogate, or out of range)."
    )


class Database:
    """One process's connections. Threads may share it; a forked child may not."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine = (
            _open_sqlite(url) if make_url(url).get_backend_name() == "sqlite" else _open_server(url, pool_size)
        )
        self.dialect = self.engine.dialect.name
        # Rows stay readable after the session is gone: services return them detached.
        self._writing = sessionmaker(self.engine.execution_options(graft_begin="IMMEDIATE"), expire_on_commit=False)
        reader = self.engine.execution_options(graft_begin="DEFERRED", postgresql_readonly=True)
        self._reading = sessionmaker(reader, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session that commits at the end, or rolls back when an error passes.

        Raises DatabaseUnavailable when the connection is lost; whether the commit arrived is then unknown.
        """
        with _translated(), self._writing() as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that only reads. Raises DatabaseUnavailable when the connection is lost."""
        with _translated(), self._reading() as session:
            yield session

    def now(self, session: Session) -> float:
        """Return the database's clock, Unix seconds."""
        return read_clock(session)

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Several processes may call it at once; one works, the rest wait."""
        from models.records import migrations  # noqa: PLC0415 — Alembic is slow to import and needed only here

        with _translated():
            migrations.upgrade(self.engine)

    def ping(self) -> None:
        """Make one round trip. Raises DatabaseUnavailable."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def check_schema(self) -> None:
        """Raise SchemaOutdated if the schema has still to be migrated; a newer release's is as good as the own."""
        with self.reading() as session:
            found = None
            if inspect(session.connection()).has_table("alembic_version"):
                found = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
        needed = max(known_revisions())
        if found is None or (found in known_revisions() and found != needed):
            raise SchemaOutdated(found=f"at revision {found}" if found else "not there", needed=needed)

    def empty_log(self) -> bool:
        """Move SQLite's write-ahead log into the file and empty it: deleted rows stand in it until that is done.

        False: a reader needs it for longer than a second. On a server there is nothing to do.
        """
        if self.dialect != "sqlite":
            return True
        with _translated():
            pooled = self.engine.raw_connection()
            try:
                cursor = pooled.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_TIMEOUT_MS}")
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
            finally:
                pooled.close()
        return not busy

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


@cache
def known_revisions() -> frozenset[str]:
    """Return the revisions that this release knows, from their files' names: Alembic takes long to import."""
    folder = Path(__file__).parent / "migrations" / "versions"
    return frozenset(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sql_errors.OperationalError, sql_errors.InterfaceError, sql_errors.TimeoutError) as error:
        raise (DiskFull() if _is_full(error) else DatabaseUnavailable()) from error
    except sql_errors.DataError as error:
        raise UnstorableValue() from error
    except sql_errors.DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable() from error
        raise
    except sql_errors.StatementError as error:
        if isinstance(error.orig, (UnicodeError, orjson.JSONEncodeError, OverflowError)):
            raise UnstorableValue() from error
        raise
    except (UnicodeEncodeError, OverflowError) as error:
        raise UnstorableValue() from error


def _is_full(error: sql_errors.SQLAlchemyError) -> bool:
    origin = getattr(error, "orig", None)
    return (
        getattr(origin, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(origin, "sqlstate", None) == _PG_DISK_FULL
    )


def _dump_json(value: Any) -> str:
    # NaN is no JSON: PostgreSQL refuses it, SQLite would hand it on to clients. orjson writes null.
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def _open_server(url: str, pool_size: int) -> Engine:
    parsed = make_url(url)
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,
        pool_recycle=1_800,
        json_serializer=_dump_json,
        json_deserializer=orjson.loads,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "application_name": "graft",
            # A peer that vanished is noticed in seconds, not in the hours of TCP's default.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": f"-c lock_timeout={int(BUSY_TIMEOUT_S)}s -c idle_in_transaction_session_timeout=60s",
        },
    )


def _open_sqlite(url: str) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.startswith("file:"):
            # For its owner only, and so are the files that SQLite puts beside it. What is wrong, SQLite says below.
            # Never one that is there: closing it would drop the locks that this process holds on it.
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    engine = create_engine(
        url,
        json_serializer=_dump_json,
        json_deserializer=orjson.loads,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=10,
        max_overflow=30,
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes late and is deferred; `_begin_sqlite` sends it instead.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA foreign_keys = ON")
    # What is deleted is overwritten with zeros: it may be a customer's text.
    connection.execute("PRAGMA secure_delete = ON")
    # The change to WAL does not wait for other connections as statements do, and lasts once it is made.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] not in {"wal", "memory"}:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once if another one wrote in between, whatever the timeout:
    # so all of them begin as writers and wait for their turn.
    begin = connection.get_execution_options().get("graft_begin", "IMMEDIATE")
    connection.exec_driver_sql(f"BEGIN {begin}")
