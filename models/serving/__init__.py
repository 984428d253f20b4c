"""The predictor: many customers' models on one base, answered in one batch."""
