"""The batching engine of encoders: passes, their cost, requests."""
