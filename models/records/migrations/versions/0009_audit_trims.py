"""An audit log that is trimmed from its old end, and there alone, after the cut was written down.

Revision 0009, after 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LEAST_S = 30 * 86_400
_REFUSAL = "audit_events is append-only"
_OF_TRIMS = "audit_trims is append-only"
_TOO_EARLY = "audit_events of the last 30 days are not trimmed"
_KEPT = "OLD.created_at >= COALESCE((SELECT max(cutoff) FROM audit_trims), 0)"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit_trims",
        sa.Column("cutoff", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("cutoff", name=op.f("pk_audit_trims")),
    )
    for statement in _on_postgresql() if op.get_bind().dialect.name == "postgresql" else _on_sqlite():
        op.execute(statement)


def _on_postgresql() -> list[str]:
    function = "CREATE FUNCTION {} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$"
    now = "extract(epoch FROM clock_timestamp())"
    return [
        "DROP TRIGGER audit_events_append_only ON audit_events",
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR TRUNCATE ON audit_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes_of_audit_events()",
        function.format("refuse_early_trims()", f"IF {_KEPT} THEN RAISE EXCEPTION '{_REFUSAL}'; END IF; RETURN OLD;"),
        "CREATE TRIGGER audit_events_trimmed BEFORE DELETE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_early_trims()",
        function.format("refuse_changes_of_audit_trims()", f"RAISE EXCEPTION '{_OF_TRIMS}';"),
        "CREATE TRIGGER audit_trims_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trims "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes_of_audit_trims()",
        function.format(
            "refuse_early_cutoffs()",
            f"IF NEW.cutoff > {now} - {_LEAST_S} THEN RAISE EXCEPTION '{_TOO_EARLY}'; END IF; RETURN NEW;",
        ),
        "CREATE TRIGGER audit_trims_old_enough BEFORE INSERT ON audit_trims "
        "FOR EACH ROW EXECUTE FUNCTION refuse_early_cutoffs()",
    ]


def _on_sqlite() -> list[str]:
    now = "(julianday('now') - 2440587.5) * 86400.0"
    return [
        "DROP TRIGGER audit_events_no_delete",
        f"CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events WHEN {_KEPT} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
        *(
            f"CREATE TRIGGER audit_trims_no_{event.lower()} BEFORE {event} ON audit_trims "
            f"BEGIN SELECT RAISE(ABORT, '{_OF_TRIMS}'); END"
            for event in ("UPDATE", "DELETE")
        ),
        f"CREATE TRIGGER audit_trims_old_enough BEFORE INSERT ON audit_trims WHEN NEW.cutoff > {now} - {_LEAST_S} "
        f"BEGIN SELECT RAISE(ABORT, '{_TOO_EARLY}'); END",
    ]


def downgrade() -> None:
    """Take back."""
    op.drop_table("audit_trims")
    if op.get_bind().dialect.name == "postgresql":
        for statement in (
            "DROP TRIGGER audit_events_trimmed ON audit_events",
            "DROP TRIGGER audit_events_append_only ON audit_events",
            "DROP FUNCTION refuse_early_trims()",
            "DROP FUNCTION refuse_early_cutoffs()",
            "DROP FUNCTION refuse_changes_of_audit_trims()",
            "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes_of_audit_events()",
        ):
            op.execute(statement)
        return
    op.execute("DROP TRIGGER audit_events_no_delete")
    op.execute(
        "CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    )
