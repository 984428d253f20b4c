"""Customers' own limits, suspension, and the jobs that are paused with a customer.

Revision 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("limits", sa.JSON(none_as_null=True), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("suspended_at", sa.Double(), nullable=True))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        # A default that is an expression (`sa.false()`) makes SQLite copy the table.
        batch_op.add_column(sa.Column("held", sa.Boolean(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("held")
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.drop_column("suspended_at")
        batch_op.drop_column("limits")
