"""What worker and records import of learning: request, events, outcomes, errors. No torch."""
