from __future__ import annotations

import pytest
from sqlalchemy import exc, text

from models.records import audit
from models.records.audit import SYSTEM, AuditFilter
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
