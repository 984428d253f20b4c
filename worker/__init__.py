"""Celery only: the app and its task, the job runner with its trainer process, the sweeper."""
