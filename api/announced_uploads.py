"""Uploads that are sure to exceed a quota, by the length that they announce: refused before a byte of them is read."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request

from api import uploads
from api.authentication import Caller
from api.context import ControlPlane
from api.idempotency import OnceOnly
from models.services import jobs, quotas
from models.services.quotas import QuotaName


def refuse_excessive_file(request: Request, caller: Caller, resources: ControlPlane, once: OnceOnly) -> None:
    """Raise QuotaExceeded or StorageQuotaExceeded if the file has no room, as `files.create` does when it has come."""
    _refuse(request, caller, resources, once, {})


def refuse_excessive_job(request: Request, caller: Caller, resources: ControlPlane, once: OnceOnly) -> None:
    """Raise what `jobs.submit` would raise if the job comes with a file and either has no room."""
    if uploads.is_multipart(request):
        _refuse(request, caller, resources, once, jobs.NEW_JOB)


def _refuse(
    request: Request, caller: Caller, resources: ControlPlane, once: OnceOnly, more: Mapping[QuotaName, int]
) -> None:
    if once.key is not None:
        return  # it may be a repetition, which is answered as the first time, however much there is now
    stored = max(more.get("stored_bytes", 0), uploads.least_bytes(request))
    adding: dict[QuotaName, int] = {**more, "files": 1, "stored_bytes": stored}
    quotas.check_soon(resources, caller.customer_id, adding)
