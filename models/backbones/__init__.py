"""Base models: what is offered, how it is loaded, and the pass through it."""
