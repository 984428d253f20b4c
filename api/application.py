"""The ASGI application: its resources, its routes, and the layers that every request passes."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api import documentation, errors, uploads
from api.connection_limits import AddressLimit
from api.context import Context
from api.job_feed import JobFeed
from api.limits import FailedLogins, OpenStreams, RateLimitHeaders, RateLimits
from api.logging import AccessLog, configure
from api.metrics import Metrics, RequestMetrics
from api.request_ids import RequestIds
from api.routes import audit, catalog, customers, files, health, jobs, keys, own_keys, usage
from api.security_headers import SecurityHeaders
from api.serving_metrics import ServingMetrics
from api.uploads_under_way import UploadsUnderWay
from models import settings as process_settings
from models.services import job_figures
from models.services.access.resolver import AccessResolver, RefreshTiming
from models.services.resources import Resources, open_resources
from models.settings import Settings

log = structlog.get_logger("graft.api")

# What a page of another origin may read of an answer beside its body.
_READABLE_HEADERS = [
    "x-request-id",
    "retry-after",
    "idempotent-replayed",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the ASGI application for `settings` or the environment's. Nothing is opened before start-up."""
    settings = settings or process_settings.load()
    configure(settings)
    version = importlib.metadata.version("graft")
    metrics = Metrics(version, settings.data_dir.absolute())
    # Swagger UI from its package, not from a CDN: /docs works where there is no internet.
    app = FastAPIOffline(
        title=documentation.TITLE,
        description=documentation.DESCRIPTION,
        version=version,
        openapi_tags=documentation.TAGS,
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/assets",
        lifespan=_lifespan,
        # The outermost first. The error boundary is inside of them: its answers are logged and marked.
        middleware=[
            Middleware(RequestIds),
            Middleware(SecurityHeaders),
            Middleware(AccessLog, settings=settings),
            Middleware(RequestMetrics, metrics=metrics),
            *_browsers(settings),
            Middleware(RateLimitHeaders),
            Middleware(errors.ErrorBoundary),
            Middleware(AddressLimit, settings=settings, on_end=metrics.count_ended_connection),
        ],
        # Its own tracing asks for its providers at every request; there are /metrics and the log instead.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        swagger_ui_parameters={"tryItOutEnabled": True, "persistAuthorization": True, "displayRequestDuration": True},
    )
    app.state.context = Context(
        settings=settings,
        metrics=metrics,
        limits=RateLimits(settings.rate_limit),
        failed_logins=FailedLogins(settings.failed_logins),
        streams=OpenStreams(per_customer=settings.max_streams, per_key=settings.max_streams_per_key),
        feed=JobFeed(),
        uploads=UploadsUnderWay(settings.uploads_per_customer),
    )
    errors.register(app)
    # Flat, and before the documentation: an included router would be searched as a tree, at every request's cost.
    app.router.routes[:0] = [route for router in _routers(settings) for route in router.routes]
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    return app


def _browsers(settings: Settings) -> list[Middleware]:
    """Return what lets pages of other origins call, where the operator has named any."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],  # keys come in a header and never as a cookie
            expose_headers=_READABLE_HEADERS,
        )
    ]


def _routers(settings: Settings) -> list[APIRouter]:
    routers: list[APIRouter] = []
    if settings.role in {"all", "predictor"}:
        # The only import of `serving`: a process that is control plane only never loads torch.
        from api.routes import chat, completions, embeddings, prediction, responses  # noqa: PLC0415

        routers += [
            prediction.router,
            chat.router,
            completions.router,
            responses.router,
            embeddings.router,
        ]  # first: the hot path is found first
    if settings.role in {"all", "api"}:
        routers += [files.router, jobs.router, catalog.router, usage.router, own_keys.router]
        routers += [customers.router, keys.router, audit.router]
    return [*routers, health.router]


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    settings = context.settings
    await run_in_threadpool(uploads.sweep, uploads.folder_of(settings))
    resources = await run_in_threadpool(open_resources, settings)
    try:
        async with contextlib.AsyncExitStack() as stack:
            context.resources = resources
            if settings.role != "predictor":  # which depends on no database
                _watch_control_plane(context.metrics, resources)
            if settings.role == "api":
                access = AccessResolver(resources, RefreshTiming(poll_s=settings.directory_poll_s))
                await access.start()
                stack.push_async_callback(access.close)
                context.access = access
            else:
                from models.serving.predictor import Predictor  # noqa: PLC0415  # brings torch

                predictor = Predictor(settings, resources)
                stack.push_async_callback(predictor.close)
                await predictor.start()
                # Libraries and the base stay as long as the process. A full collection that walks them as well stops
                # every request for a tenth of a second.
                gc.collect()
                gc.freeze()
                context.predictor = predictor
                context.metrics.registry.register(ServingMetrics(predictor))
            if settings.role != "predictor":
                # They import what they need while the process answers already, stepping back for it.
                await run_in_threadpool(resources.validations.start)
            log.info("started", role=settings.role)
            yield
            context.predictor = context.access = None
    finally:
        context.resources = None
        await run_in_threadpool(resources.close)
        log.info("stopped")


def _watch_control_plane(metrics: Metrics, resources: Resources) -> None:
    metrics.watch_jobs(lambda: job_figures.measure(resources), resources.queue.depth)
    metrics.watch_uploads(resources.validations)


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def generate() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            documentation.complete(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    return generate
