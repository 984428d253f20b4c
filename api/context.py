"""Settings, control plane and predictor of one process, as its requests reach them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import Depends, Request

from api.callers import actor_of
from models.services.resources import Resources
from models.settings import Settings

if TYPE_CHECKING:
    from api.job_feed import JobFeed
    from api.limits import FailedLogins, OpenStreams, RateLimits
    from api.metrics import Metrics
    from models.services.access.resolver import AccessResolver, Principal
    from models.serving.predictor import Predictor


Answer = TypeVar("Answer")

_VALIDATIONS = 8


@dataclass(slots=True)
class Context:
    """The parts of one process. `predictor` is None in a process that is control plane only."""

    settings: Settings
    metrics: Metrics
    limits: RateLimits
    failed_logins: FailedLogins
    streams: OpenStreams
    feed: JobFeed
    resources: Resources | None = None
    access: AccessResolver | None = None
    predictor: Predictor | None = None
    validations: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_VALIDATIONS))

    async def validate(self, work: Callable[[], Answer]) -> Answer:
        """Run work that reads a whole upload on a thread; few at a time, so that threads for short work stay free."""
        return await to_thread.run_sync(work, limiter=self.validations)

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


async def _resources(request: Request) -> Resources:
    resources = of(request).resources
    if resources is None:  # only before start-up and after shutdown
        raise RuntimeError("the application is not started")
    return replace(resources, actor=actor_of(request))


def _settings(request: Request) -> Settings:
    return of(request).settings


ControlPlane = Annotated[Resources, Depends(_resources)]
Configuration = Annotated[Settings, Depends(_settings)]
