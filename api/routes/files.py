"""/v1/files: upload, look at, fetch and delete data sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from api import context, uploads
from api.admission import CustomerRoute, needs
from api.announced_uploads import refuse_excessive_file
from api.authentication import Caller
from api.context import Configuration, ControlPlane
from api.documentation import FILE_FORM, answers
from api.forms import body_of, file_of
from api.idempotency import OnceOnly
from api.pagination import After, listing
from api.schemas.base import Deleted, Listing
from api.schemas.files import FileObject, file_object
from api.schemas.uploads import CreateFile
from models.services import files
from models.services.files import NewFile
from models.services.validation.cancellation import Cancellation

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=CustomerRoute, responses=answers(401, 403, 404, 429))

FileId = Annotated[str, Path(description="The file's id: `file-…`.")]

_CHUNK_BYTES = 1 << 18
# OpenAI's clients may ask for 10,000, but every item carries its whole map of labels.
_PAGE = 100


@router.post(
    "",
    response_model=FileObject,
    openapi_extra=FILE_FORM,
    responses=answers(400, 413, 507),
    dependencies=[needs("train"), Depends(refuse_excessive_file)],
)
async def create(
    request: Request, caller: Caller, resources: ControlPlane, settings: Configuration, once: OnceOnly
) -> Response:
    """Upload a data set. It is read whole: a file with bad rows is refused, and the answer names each of them."""
    parts, folder = context.of(request), uploads.folder_of(settings)
    async with (
        parts.uploads.one_more(caller.customer_id),
        uploads.receive(request, folder=folder, limit=settings.upload_limit_bytes) as form,
    ):
        body, upload = body_of(CreateFile, form, files={"file"}), file_of(form)

        def store(gone: Cancellation) -> FileObject:
            new = NewFile(upload.path, upload.filename, body.purpose, body.task, body.columns, sha256=upload.sha256)
            return file_object(files.create(resources, caller.customer_id, new, gone))

        asked = [body.model_dump(), upload.filename, upload.sha256]
        return await parts.uploads.work(request, lambda gone: once.answer(asked, lambda: store(gone)))


@router.get("", dependencies=[needs("train", "manage")])
def list_all(
    caller: Caller,
    resources: ControlPlane,
    *,
    after: After = None,
    limit: Annotated[
        int,
        Query(
            description=f"How many at most; {_PAGE} at a time, has_more is true if there are others.", ge=1, le=10_000
        ),
    ] = _PAGE,
    purpose: Annotated[
        str | None,
        Query(description="Only files of this purpose: fine-tune, validation, unlabeled, fine-tune-results."),
    ] = None,
    order: Annotated[str, Query(pattern="^desc$", description="Newest first is the only order.")] = "desc",  # noqa: ARG001
) -> Listing[FileObject]:
    """List your files, newest first."""
    page = files.list_page(resources, caller.customer_id, after=after, limit=min(limit, _PAGE), purpose=purpose)
    return listing(page, file_object)


@router.get("/{file_id}", dependencies=[needs("train", "manage")])
def retrieve(file_id: FileId, caller: Caller, resources: ControlPlane) -> FileObject:
    """Retrieve a file and what validation learned about it."""
    return file_object(files.get(resources, caller.customer_id, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse, dependencies=[needs("train")])
def content(file_id: FileId, caller: Caller, resources: ControlPlane) -> StreamingResponse:
    """Download a file as it was uploaded."""
    file = files.get(resources, caller.customer_id, file_id)
    stream = files.open_content(resources, caller.customer_id, file_id)
    headers = {
        "content-length": str(file.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
        # What a customer uploaded must not run as a page of this origin.
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(_chunks(stream), headers=headers, media_type="application/octet-stream")


@router.delete("/{file_id}", responses=answers(409), dependencies=[needs("manage")])
def delete(file_id: FileId, caller: Caller, resources: ControlPlane) -> Deleted:
    """Delete a file that no unfinished job uses."""
    files.delete(resources, caller.customer_id, file_id)
    return Deleted(id=file_id, object="file")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
