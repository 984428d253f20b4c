"""Rows in memory: inputs, encoded targets, frozen features, folds."""
