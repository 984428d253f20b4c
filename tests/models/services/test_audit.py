"""Trimming of the audit log, as the sweeper does it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from models.records import audit as records
from models.records.audit import SYSTEM, AuditEvent
from models.services import audit
from models.services.resources import Resources

_DAY_S = 86_400.0


def _write(resources: Resources, days: list[float]) -> None:
    with resources.database.transaction() as session:
        for each in days:
            records.record(session, SYSTEM, "key.revoked", "cus_1", f"{each:g} days ago")
        for event, each in zip(session.new, days, strict=True):
            assert isinstance(event, AuditEvent)
            event.created_at = time.time() - each * _DAY_S


@pytest.mark.parametrize("batch", [2, 500])
def test_days_older_than_the_operator_keeps_go_and_the_log_says_so(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(audit, "_BATCH", batch)
    _write(resources, [400, 300, 200, 101.5, 98.5, 1])
    assert audit.trim(resources) == 0  # for ever, unless the operator says otherwise
    settings = resources.settings.model_copy(update={"audit_keep_days": 100})
    keeping = replace(resources, settings=settings)
    assert audit.trim(keeping) == 4
    assert audit.trim(keeping) == 0  # the next sweep
    left = audit.list_page(resources).data
    assert [event.target for event in left] == ["audit_events", "1 days ago", "98.5 days ago"]
    assert (left[0].action, left[0].actor) == ("audit.trimmed", "system")
