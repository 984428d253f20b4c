"""The logs of the worker and of the trainer: the job's ids are on every line that concerns one."""

from __future__ import annotations

import logging

from models import logs
from models.settings import Settings


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr in the form of all others."""
    logs.configure(settings)
    # One line per message received and per task done, without the job's id: ours say more.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
