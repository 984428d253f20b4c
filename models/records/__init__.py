"""The database: one file per aggregate with its table and its queries."""
