"""Request, events, outcomes and errors: all that worker and records import of learning. No torch."""
