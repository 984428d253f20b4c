"""For load balancers and Prometheus: /healthz, /readyz, /metrics; and an index at /."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from api import context
from api.schemas.base import Object
from models.services.resources import Resources

router = APIRouter(tags=["health"])

_PROBE_TIMEOUT_S = 2.0
_PROBED_KEY = "readiness"


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
    """Check that database, object store and predictor can be reached; the broker is named too, but may be away."""
    parts = context.of(request)
    probes: dict[str, Callable[[], object]] = {}
    if parts.resources is not None and parts.settings.role != "predictor":
        # A predictor answers from its caches: without the store what it holds, without the database for seconds. Every
        # other predictor would be as unready, and a proxy's error is less clear than a predictor's 503.
        probes = _probes(parts.resources)
    results = dict(zip(probes, await asyncio.gather(*map(_probe, probes.values())), strict=True))
    if parts.settings.role != "api":
        results["predictor"] = "ok" if parts.predictor is not None else "not loaded"
    # Without the broker a POST still succeeds (the sweeper sends its message later): named, but no reason to turn away.
    ready = all(result == "ok" for part, result in results.items() if part != "broker")
    answer = Readiness(status="ready" if ready else "unready", checks=results)
    return JSONResponse(answer.model_dump(), 200 if ready else 503, {} if ready else {"retry-after": "2"})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Read the process's metrics in Prometheus' text format."""
    content = await run_in_threadpool(generate_latest, context.of(request).metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


def _probes(resources: Resources) -> dict[str, Callable[[], object]]:
    def broker() -> None:
        if resources.queue.depth() is None:
            raise ConnectionError

    return {
        "database": resources.database.ping,
        "store": lambda: resources.store.exists(_PROBED_KEY),
        "broker": broker,
    }


async def _probe(probe: Callable[[], object]) -> str:
    start = time.monotonic()
    try:
        await asyncio.wait_for(run_in_threadpool(probe), _PROBE_TIMEOUT_S)
    except TimeoutError:
        return f"no answer in {time.monotonic() - start:.1f} s"
    except Exception as error:  # of any driver: it is not ready; the name alone leaks no address
        return f"unreachable ({type(error).__name__})"
    return "ok"
