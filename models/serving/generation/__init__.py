"""Serving of models that write: token by token, many customers' sequences in one step."""
