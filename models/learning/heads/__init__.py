"""Frozen features to a head: cross-validation, L-BFGS, n-grams, zero-shot."""
