"""What the fair queue goes by: since when a job waits, when its attempt began, and what its customer used lately.

Revision 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("interruptions", _INTEGER, nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("queued_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("claimed_at", sa.Double(), nullable=True))
    op.create_table(
        "training_shares",
        sa.Column("customer_id", sa.String(length=40), nullable=False),
        sa.Column("used_s", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=False),
        sa.Column("month", _INTEGER, nullable=False),
        sa.Column("month_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_training_shares_customer_id_customers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_training_shares")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("training_shares")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("claimed_at")
        batch_op.drop_column("queued_at")
        batch_op.drop_column("interruptions")
