"""Alembic's entry point: runs on the connection, and inside the transaction, that `upgrade` opened."""

from __future__ import annotations

from alembic import context

from models.records import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.METADATA,
    # SQLite changes a column by copying its table.
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
