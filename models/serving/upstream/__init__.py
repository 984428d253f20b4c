"""Serving of models that write by a vLLM server: Graft keeps keys, fairness, usage, limits and the errors' words."""
