"""The forms of a request for a job: JSON that names a file, JSON that holds the rows, or a form with the file in it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api import uploads
from api.errors import InvalidBody
from api.forms import body_of, validated
from api.json_bodies import JsonRequest
from api.schemas.files import PURPOSE
from api.schemas.job_creation import CreateJob
from api.uploads import Form, Upload
from models.datasets.tasks.unlabeled import INPUTS
from models.datasets.validation import Role
from models.errors import GraftError
from models.records.database import DatabaseUnavailable
from models.records.jobs import Job
from models.services import files, jobs
from models.services.files import NewFile
from models.services.idempotency import IdempotencyToken
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.services.validation.cancellation import Cancellation
from models.settings import Settings
from models.storage.errors import refusing_when_full

log = structlog.get_logger("graft.api")

_INLINE_NAME = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class AskedJob:
    """A requested job, with the files that came along and are not stored yet."""

    body: CreateJob
    training: Upload | None = None
    validation: Upload | None = None
    unlabeled: Upload | None = None

    @property
    def uploads(self) -> tuple[Upload | None, ...]:
        """The files that came along, by what they are for."""
        return self.training, self.validation, self.unlabeled

    @property
    def brings_files(self) -> bool:
        """Whether a file came along, which has to be read whole."""
        return any(upload is not None for upload in self.uploads)

    @property
    def fingerprint(self) -> list[Any]:
        """The identity of this request: its fields and the contents of its files."""
        sent = [(upload.filename, upload.sha256) if upload else None for upload in self.uploads]
        return [self.body.model_dump(mode="json", exclude={"training_data"}), sent]


@contextlib.asynccontextmanager
async def read(
    request: Request, settings: Settings, one_more: contextlib.AbstractAsyncContextManager[None]
) -> AsyncIterator[AskedJob]:
    """Read the body, whichever form it has; its files are removed when the context ends.

    `one_more` is entered when a file or rows come along: the customer has one more upload under way.
    """
    folder = uploads.folder_of(settings)
    if uploads.is_multipart(request):
        async with one_more, uploads.receive(request, folder=folder, limit=settings.upload_limit_bytes) as form:
            yield _from_form(form)
        return
    parsed = JsonRequest(request.scope, request.receive)
    await parsed.load(settings.body_limit_bytes)
    body = validated(CreateJob, await parsed.json())
    if body.training_data is None:
        if body.training_file is None:
            raise InvalidBody(
                reason="training_file is required: the id of an uploaded file. Or send the rows themselves in "
                "training_data, or a multipart form with the file in its field 'file'.",
                param="training_file",
            )
        yield AskedJob(body)
        return
    if body.training_file is not None:
        raise InvalidBody(reason="training_file and training_data exclude each other.", param="training_data")
    async with one_more, uploads.scratch_folder(folder, prefix="rows-") as scratch:
        with refusing_when_full():
            rows = await run_in_threadpool(_write_rows, body.training_data, scratch / _INLINE_NAME)
        yield AskedJob(body, rows)


def submit(
    resources: Resources,
    customer_id: str,
    asked: AskedJob,
    token: IdempotencyToken | None,
    gone: Cancellation | None = None,
) -> Job:
    """Store the files that came along and submit the job; if it is refused, they are removed again."""
    body = asked.body
    stored: list[str] = []

    def file_id(upload: Upload | None, named: str | None, role: Role) -> str | None:
        if upload is None:
            return named
        columns = body.columns
        if role == "unlabeled":  # it has the inputs of the two others, and not their answers
            columns = {name: own for name, own in (columns or {}).items() if name in INPUTS}
        purpose = "unlabeled" if role == "unlabeled" else PURPOSE
        new = NewFile(upload.path, upload.filename, purpose, body.task, columns, role, upload.sha256)
        file = files.create(resources, customer_id, new, gone)
        stored.append(file.id)
        return file.id

    try:
        training_file = file_id(asked.training, body.training_file, "training")
        request = JobRequest(
            training_file=training_file or "",
            validation_file=file_id(asked.validation, body.validation_file, "validation"),
            unlabeled_file=file_id(asked.unlabeled, body.unlabeled_file, "unlabeled"),
            model=body.model,
            suffix=body.suffix,
            task=body.task,
            strategy=body.chosen_strategy,
            seed=body.seed,
            hyperparameters=body.chosen_hyperparameters,
            promote=body.promote,
            metadata=body.metadata or {},
        )
        job = jobs.submit(resources, customer_id, request, idempotency=token)
    except DatabaseUnavailable:
        # The commit may have arrived, and the job need its files.
        raise
    except GraftError:
        _delete(resources, customer_id, stored)
        raise
    # A repeated request gets the job of the first one, which has copies of its own.
    used = {job.training_file_id, job.validation_file_id, job.unlabeled_file_id}
    _delete(resources, customer_id, [stored_id for stored_id in stored if stored_id not in used])
    log.info("job submitted", job_id=job.id, task=job.task, strategy=job.strategy)
    return job


def _delete(resources: Resources, customer_id: str, file_ids: Sequence[str]) -> None:
    for file_id in file_ids:
        # The answer is about the error before this one, not about a file that has to stay.
        with contextlib.suppress(GraftError):
            files.delete(resources, customer_id, file_id)


def _from_form(form: Form) -> AskedJob:
    body = body_of(CreateJob, form, files={"file", "training_file", "validation_file", "unlabeled_file"})
    if "file" in form.files and "training_file" in form.files:
        raise InvalidBody(reason="The form has the training data twice, in file and in training_file.", param="file")
    training = form.files.get("file") or form.files.get("training_file")
    sources = [training, body.training_file, body.training_data]
    if sum(source is not None for source in sources) != 1:
        raise InvalidBody(reason="The form needs the data set as a file in its field 'file'.", param="file")
    if body.training_data is not None:
        raise InvalidBody(reason="In a form, the rows come as a file in its field 'file'.", param="training_data")
    return AskedJob(body, training, form.files.get("validation_file"), form.files.get("unlabeled_file"))


def _write_rows(rows: list[dict[str, Any]], path: Path) -> Upload:
    content = b"\n".join(orjson.dumps(row) for row in rows)
    path.write_bytes(content)
    return Upload(path, path.name, len(content), hashlib.sha256(content).hexdigest())
