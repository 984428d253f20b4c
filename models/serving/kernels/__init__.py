"""Low-rank products and batched products by address, behind a small interface."""
