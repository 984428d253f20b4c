"""What one worker process runs beside Celery's consumer: the supervisor and the sweeper."""

from __future__ import annotations

from models import settings as graft_settings
from models.services.resources import open_resources
from worker import metrics
from worker.supervisor import Supervisor
from worker.sweeper import Sweeper

_supervisor: Supervisor | None = None
_sweeper: Sweeper | None = None


def start() -> None:
    """Open the resources, warm up a trainer, begin to sweep."""
    global _supervisor, _sweeper  # noqa: PLW0603  # Celery's signals carry no state of ours
    resources = open_resources(graft_settings.load())
    metrics.serve(resources.settings.worker_metrics_port)
    _supervisor = Supervisor(resources)
    _supervisor.start()
    _sweeper = Sweeper(resources)
    _sweeper.start()


def supervisor() -> Supervisor:
    """The supervisor of this process. RuntimeError outside of a worker."""
    if _supervisor is None:
        raise RuntimeError("not in a worker process")
    return _supervisor


def shut_down() -> None:
    """Begin to stop; called from a signal handler."""
    if _supervisor is not None:
        _supervisor.shut_down()


def close() -> None:
    """Stop what is left."""
    if _sweeper is not None:
        _sweeper.stop()
    if _supervisor is not None:
        _supervisor.close()
