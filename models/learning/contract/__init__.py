"""Request, events, outcomes and errors of training: the only part of learning that services, records, worker and
serving import. No torch."""
