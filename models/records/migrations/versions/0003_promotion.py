"""What an alias pointed at before, step by step; what may go live by itself; version numbers that are used once.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True)
_ALIASES = sa.table(
    "aliases",
    sa.column("model_id", sa.String()),
    sa.column("name", sa.String()),
    sa.column("previous", _INTEGER),
    sa.column("history", _JSON),
)


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("history", _JSON, nullable=False, server_default="[]"))
    bind = op.get_bind()
    for alias in bind.execute(sa.select(_ALIASES).where(_ALIASES.c.previous.is_not(None))).all():
        bind.execute(_ALIASES.update().where(*_is(alias)).values(history=[alias.previous]))
    # `previous` stays: processes of the last release run beside the new ones, and perhaps after them.
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("promote", sa.String(length=10), nullable=False, server_default="auto"))
        batch_op.add_column(sa.Column("last_number", _INTEGER, nullable=False, server_default="0"))
    op.execute(
        "UPDATE models SET last_number = "
        "COALESCE((SELECT MAX(number) FROM model_versions WHERE model_versions.model_id = models.id), 0)"
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("promote", sa.String(length=10), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("promote")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_column("last_number")
        batch_op.drop_column("promote")
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.drop_column("history")


def _is(alias: sa.Row[tuple[object, ...]]) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _ALIASES.c.model_id == alias.model_id, _ALIASES.c.name == alias.name
