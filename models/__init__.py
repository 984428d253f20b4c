"""Everything about Graft that is true without HTTP and without Celery."""
