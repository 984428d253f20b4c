"""For load balancers and Prometheus: /healthz, /readyz, /metrics; and an index at /."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from api import context
from api.authentication import require_token
from api.metrics import free_bytes
from api.schemas.base import Object
from models.records.database import SchemaOutdated
from models.services.resources import Resources
from models.serving.errors import GenerationMisconfigured, GenerationUnavailable
from models.settings import Settings

if TYPE_CHECKING:
    from models.serving.predictor import Predictor

router = APIRouter(tags=["health"])

_PROBE_TIMEOUT_S = 2.0
_PROBED_KEY = "readiness"
# No reason to turn everybody away. Without the broker a POST still succeeds: the sweeper sends its message later. On a
# full disk uploads get 507, where no process can be started to read them 503, and predictions and reads go on.
# Without the server that writes, everything that is not written is answered.
_NAMED_ONLY = {"broker", "disk", "uploads", "generation_upstream"}
_LEAST_FREE_BYTES = 64 * 2**20


class Health(Object):
    """The process answers."""

    status: str = Field("ok", description="Always `ok`.")
    version: str = Field(description="Graft's version.")


class Readiness(Object):
    """Whether the process can do its work, part by part."""

    status: str = Field(description="ready, or unready with a 503.")
    checks: dict[str, str] = Field(description='"ok", or what fails.')


@router.get("/", include_in_schema=False)
async def index(request: Request) -> dict[str, Any]:
    """Show the version and the links."""
    base = context.of(request).settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    links = {name: base + path for name, path in (("api", "/v1"), ("docs", "/docs"), ("openapi", "/openapi.json"))}
    return {"object": "service", "name": "graft", "version": request.app.version, "links": links}


@router.get("/healthz")
async def healthz(request: Request) -> Health:
    """Check that the process is alive."""
    return Health(version=request.app.version)


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "What fails."}})
async def readyz(request: Request) -> Response:
    """Check that database, its schema, object store and predictor work; the broker may be away and the disk full."""
    parts = context.of(request)
    probes: dict[str, Callable[[], object]] = {}
    if parts.resources is not None and parts.settings.role != "predictor":
        # A predictor answers from its caches: without the store what it holds, without the database for seconds. Every
        # other predictor would be as unready, and a proxy's error is less clear than a predictor's 503.
        probes = _probes(parts.resources) | {"disk": lambda: _check_disk(parts.settings.data_dir.absolute())}
    results = dict(zip(probes, await asyncio.gather(*map(_probe, probes.values())), strict=True))
    if probes and parts.resources is not None:
        results["uploads"] = parts.resources.validations.trouble() or "ok"
    if parts.settings.role != "api":
        results["predictor"] = _state_of(parts.predictor)
        if parts.settings.generation_upstream:
            results["generation_upstream"] = await _probe(lambda: _check_upstream(parts.settings))
    ready = all(result == "ok" for part, result in results.items() if part not in _NAMED_ONLY)
    answer = Readiness(status="ready" if ready else "unready", checks=results)
    return JSONResponse(answer.model_dump(), 200 if ready else 503, {} if ready else {"retry-after": "2"})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Read the process's metrics in Prometheus' text format."""
    parts = context.of(request)
    if parts.settings.metrics_token is not None:
        require_token(request, parts.settings.metrics_token)
    content = await run_in_threadpool(generate_latest, parts.metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


def _probes(resources: Resources) -> dict[str, Callable[[], object]]:
    def broker() -> None:
        if resources.queue.depth() is None:
            raise ConnectionError

    return {
        "database": resources.database.ping,
        "schema": resources.database.check_schema,
        "store": lambda: resources.store.exists(_PROBED_KEY),
        "broker": broker,
    }


class _DiskLow(Exception):
    """Uploads and jobs have no room."""


def _check_disk(folder: Path) -> None:
    free = free_bytes(folder)
    if free < _LEAST_FREE_BYTES:
        raise _DiskLow(f"full ({free / 2**20:.0f} MiB free)")


def _check_upstream(settings: Settings) -> None:
    from models.serving.upstream.client import context_length  # noqa: PLC0415 - a control plane loads nothing of it

    context_length(settings, settings.generation_base_model, timeout_s=_PROBE_TIMEOUT_S)


def _state_of(predictor: Predictor | None) -> str:
    if predictor is None:
        return "not loaded"
    return "ok" if predictor.alive else "a compute thread has ended"


async def _probe(probe: Callable[[], object]) -> str:
    start = time.monotonic()
    try:
        await asyncio.wait_for(run_in_threadpool(probe), _PROBE_TIMEOUT_S)
    except TimeoutError:
        return f"no answer in {time.monotonic() - start:.1f} s"
    except (SchemaOutdated, _DiskLow, GenerationMisconfigured, GenerationUnavailable) as error:
        return str(error)
    except Exception as error:  # of any driver: it is not ready; the name alone leaks no address
        return f"unreachable ({type(error).__name__})"
    return "ok"
