"""Base models: the registry, loading, and the pass through a base."""
