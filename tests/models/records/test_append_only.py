from __future__ import annotations

import time

import pytest
from sqlalchemy import exc, text

from models.records import audit
from models.records.audit import SYSTEM, AuditEvent, AuditFilter
from models.records.database import Database


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events WHERE actor = 'system'"]
)
def test_the_database_itself_refuses_to_change_the_audit_log(database: Database, statement: str) -> None:
    """Before there was no log; with one, whoever finds a way into a session must not erase the traces."""
    with database.transaction() as session:
        audit.record(session, SYSTEM, "key.revoked", "cus_1", "key_1")
    with (
        pytest.raises((exc.DBAPIError, exc.IntegrityError), match="append-only"),
        database.engine.begin() as connection,
    ):
        connection.execute(text(statement))
    with database.reading() as session:
        assert len(audit.fetch_list(session, AuditFilter(), after=None, limit=10).data) == 1


_DAY_S = 86_400.0


def _add_old(database: Database, days: float) -> None:
    with database.transaction() as session:
        audit.record(session, SYSTEM, "key.revoked", "cus_1", f"{days} days ago")
        (event,) = session.new
        assert isinstance(event, AuditEvent)
        event.created_at = time.time() - days * _DAY_S


def test_only_what_is_behind_a_cut_that_was_written_down_can_be_deleted(database: Database) -> None:
    for days in (90.0, 50.0, 1.0):
        _add_old(database, days)
    cutoff = time.time() - 60 * _DAY_S
    with pytest.raises(exc.DBAPIError, match="append-only"), database.transaction() as session:
        audit.delete_oldest(session, cutoff, 10)
    for _ in range(2):  # two sweepers: one cut
        with database.transaction() as session:
            audit.cut(session, SYSTEM, cutoff)
    with pytest.raises(exc.DBAPIError, match="append-only"), database.transaction() as session:
        audit.delete_oldest(session, time.time(), 10)
    with database.transaction() as session:
        assert audit.delete_oldest(session, cutoff, 10) == 1
    with database.reading() as session:
        left = audit.fetch_list(session, AuditFilter(), after=None, limit=10).data
    assert [event.target for event in left] == ["audit_events", "1.0 days ago", "50.0 days ago"]
    assert (left[0].action, left[0].after) == ("audit.trimmed", {"cutoff": cutoff})


def test_no_cut_reaches_into_the_last_days_and_none_is_taken_back(database: Database) -> None:
    with database.transaction() as session:
        audit.cut(session, SYSTEM, time.time() - 60 * _DAY_S)
    with pytest.raises(exc.DBAPIError, match="last 30 days"), database.transaction() as session:
        audit.cut(session, SYSTEM, time.time() - 29 * _DAY_S)
    for statement in ("UPDATE audit_trims SET cutoff = cutoff + 1", "DELETE FROM audit_trims"):
        with pytest.raises(exc.DBAPIError, match="append-only"), database.engine.begin() as connection:
            connection.execute(text(statement))
