"""Celery only: the app, the train task, the supervisor of the trainer process, the sweeper."""
