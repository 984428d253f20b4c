"""Settings, control plane and predictor of one process, as its requests reach them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from anyio import from_thread
from fastapi import Depends, Request

from api.callers import actor_of
from models.services.resources import Resources
from models.settings import Settings

if TYPE_CHECKING:
    from api.job_feed import JobFeed
    from api.limits import FailedLogins, OpenStreams, RateLimits
    from api.metrics import Metrics
    from api.uploads_under_way import UploadsUnderWay
    from models.services.access.resolver import AccessResolver, Principal
    from models.serving.predictor import Predictor


@dataclass(slots=True)
class Context:
    """The parts of one process. `predictor` is None in a process that is control plane only."""

    settings: Settings
    metrics: Metrics
    limits: RateLimits
    failed_logins: FailedLogins
    streams: OpenStreams
    feed: JobFeed
    uploads: UploadsUnderWay
    resources: Resources | None = None
    access: AccessResolver | None = None
    predictor: Predictor | None = None

    def note_change(self, customer_id: str, model_name: str) -> None:
        """Drop this process's cache of a model that it has just changed. Called on a request's worker thread."""
        access = self.predictor.access if self.predictor is not None else self.access
        if access is not None:
            from_thread.run_sync(access.forget, customer_id, model_name)

    async def authenticate(self, secret: str) -> Principal:
        """Return the customer whose key this is, from a cache; raises InvalidKey."""
        return await self._access().authenticate(secret)

    def knows(self, secret: str) -> bool:
        """Whether a key is in the cache as one that exists: to ask costs nothing."""
        return self._access().knows(secret)

    def _access(self) -> AccessResolver:
        access = self.predictor.access if self.predictor is not None else self.access
        if access is None:
            raise RuntimeError("the application is not started")
        return access


def of(request: Request) -> Context:
    """Return the process's context."""
    return cast("Context", request.app.state.context)


def predictor_of(request: Request) -> Predictor:
    """Return the process's predictor: routes that predict are only in processes that have one."""
    predictor = of(request).predictor
    if predictor is None:  # only before start-up and after shutdown
        raise RuntimeError("this process has no predictor")
    return predictor


async def _resources(request: Request) -> Resources:
    resources = of(request).resources
    if resources is None:  # only before start-up and after shutdown
        raise RuntimeError("the application is not started")
    return replace(resources, actor=actor_of(request))


def _settings(request: Request) -> Settings:
    return of(request).settings


ControlPlane = Annotated[Resources, Depends(_resources)]
Configuration = Annotated[Settings, Depends(_settings)]
