"""`Idempotency-Key`: the same key and body answer once and are replayed; another body under the same key is a 409."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api import context
from api.callers import OPERATOR, Operator
from api.schemas.jobs import job_object
from models.records.jobs import Job
from models.services import idempotency
from models.services.idempotency import IdempotencyToken
from models.services.resources import Resources


@dataclass(frozen=True, slots=True)
class Once:
    """Runs a creation at most once per key. Blocks on the database: use it off the event loop."""

    resources: Resources
    scope: str
    key: str | None
    target: str
    refresh_s: float = idempotency.REFRESH_S

    def answer(
        self,
        request: Any,
        create: Callable[[], BaseModel],
        *,
        redact: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> Response:
        """Answer with the wire object that `create` makes, or with the answer that this key had before.

        `request` is the JSON-ready body of the key's first request; `redact` removes what must not be stored.
        A creation that fails leaves the key free: nothing was made, and the caller may correct the body.
        """
        return self._answer(request, lambda _digest: create(), redact, complete=True)

    def answer_job(self, request: Any, create: Callable[[IdempotencyToken | None], Job]) -> Response:
        """Answer with a job, which writes its answer in its own transaction: `create` passes the token on."""

        def submit(digest: str) -> BaseModel:
            token = IdempotencyToken(self.key, digest, render=_render_job) if self.key else None
            return job_object(create(token))

        return self._answer(request, submit, dict, complete=False)

    def _answer(
        self,
        request: Any,
        create: Callable[[str], BaseModel],
        redact: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        complete: bool,
    ) -> Response:
        if self.key is None:
            return _json(create("").model_dump(mode="json"))
        asked = orjson.dumps([self.target, request], option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(asked).hexdigest()
        replay = idempotency.begin(self.resources, self.scope, self.key, digest)
        if replay is not None:
            return _json(replay.body, replay.status, {"idempotent-replayed": "true"})
        try:
            with idempotency.hold(self.resources, self.scope, self.key, refresh_s=self.refresh_s):
                body = create(digest).model_dump(mode="json")
        except BaseException:
            idempotency.abandon(self.resources, self.scope, self.key)
            raise
        if complete:
            idempotency.finish(self.resources, self.scope, self.key, 200, redact(body))
        return _json(body)


def _render_job(job: Job) -> dict[str, Any]:
    return job_object(job).model_dump(mode="json")


def _once(
    request: Request,
    key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Repeat a POST with the same key and body: it is done once."),
    ] = None,
) -> Once:
    resources = context.of(request).resources
    if resources is None:
        raise RuntimeError("the application is not started")
    caller = request.state.caller
    scope = OPERATOR if isinstance(caller, Operator) else caller.customer_id
    return Once(resources, scope, key, f"{request.method} {request.url.path}")


OnceOnly = Annotated[Once, Depends(_once)]


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, "application/json")
