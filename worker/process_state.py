"""The parts of one worker process beside Celery's consumer: the job runner and the sweeper."""

from __future__ import annotations

from models import settings as graft_settings
from models.services.resources import open_resources
from worker import monitoring
from worker.job_runner import JobRunner
from worker.sweeper import Sweeper

_runner: JobRunner | None = None
_sweeper: Sweeper | None = None


def start() -> None:
    """Open the resources, warm up a trainer, begin to sweep."""
    global _runner, _sweeper  # noqa: PLW0603  # Celery's signals carry no state of ours
    resources = open_resources(graft_settings.load())
    monitoring.serve_metrics(resources.settings)
    _runner = JobRunner(resources)
    _runner.start()
    _sweeper = Sweeper(resources)
    _sweeper.start()


def job_runner() -> JobRunner:
    """Return the job runner of this process. Raises RuntimeError outside of a worker."""
    if _runner is None:
        raise RuntimeError("not in a worker process")
    return _runner


def shut_down() -> None:
    """Begin to stop; called from a signal handler."""
    if _runner is not None:
        _runner.shut_down()


def close() -> None:
    """Stop what is left."""
    if _sweeper is not None:
        _sweeper.stop()
    if _runner is not None:
        _runner.close()
