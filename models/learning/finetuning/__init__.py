"""Low-rank, partial, full and scratch training: network, training loop, checkpoints, splits."""
