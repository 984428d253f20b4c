"""Multipart forms: files stream to disk, hashed and counted on their way; nothing of them is held in memory."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.errors import BodyTooLarge, ClientClosedRequest, InvalidBody, UnsupportedMediaType, UploadTooLarge
from models.settings import Settings
from models.storage.errors import refusing_when_full

_WRITE_BYTES = 1 << 20
_FIELD_BYTES = 64 * 1024
_MAX_FILES = 64
_MAX_FIELDS = 64
# Of the headers of one part; and of the boundary, which is compared at every byte (RFC 2046 allows 70).
_HEADER_BYTES = 16 * 1024
_BOUNDARY_BYTES = 70
_ABANDONED_S = 86_400.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class InvalidForm(InvalidBody):
    """The body is not a well-formed multipart form."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived whole, on local disk."""

    path: Path
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: text fields and files by name, and all files in their order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)  # of several of one name the first
    in_order: list[Upload] = field(default_factory=list)


@contextlib.asynccontextmanager
async def receive(request: Request, *, folder: Path, limit: int, same_names: bool = False) -> AsyncIterator[Form]:
    """Read a multipart form; its files live in a folder below `folder` until the context ends.

    `same_names`: several files may have one name, as those of `curl -F file=@a.jpg -F file=@b.jpg` do.

    Raises UploadTooLarge when more than `limit` bytes come (whatever was announced), InvalidForm,
    UnsupportedMediaType, ClientClosedRequest, DiskFull.
    """
    boundary = _boundary(request)
    if least_bytes(request) > limit:
        raise UploadTooLarge(limit=limit, param="file")
    async with scratch_folder(folder, prefix="upload-") as scratch:
        with refusing_when_full():
            form = await _read(request, _Reader(boundary, scratch, limit, same_names=same_names))
        yield form


@contextlib.asynccontextmanager
async def scratch_folder(folder: Path, *, prefix: str) -> AsyncIterator[Path]:
    """Make a folder below `folder` for as long as the context lasts. Raises DiskFull."""
    with refusing_when_full():
        await run_in_threadpool(folder.mkdir, parents=True, exist_ok=True)
        scratch = await run_in_threadpool(tempfile.TemporaryDirectory, prefix=prefix, dir=folder)
    try:
        yield Path(scratch.name)
    finally:
        await run_in_threadpool(scratch.cleanup)


def sweep(folder: Path) -> None:
    """Remove the remains of killed processes: scratch folders in which nothing has changed for a day."""
    for scratch in folder.glob("*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if scratch.stat().st_mtime < time.time() - _ABANDONED_S:
                shutil.rmtree(scratch)


def folder_of(settings: Settings) -> Path:
    """Return the folder of uploads that are not in the object store yet."""
    return settings.cache_dir / "uploads"


def least_bytes(request: Request) -> int:
    """Return how many bytes the files of a form have at least, by the length that it announces; 0 if it names none."""
    announced = request.headers.get("content-length", "")
    return max(0, int(announced) - _FIELD_BYTES * _MAX_FIELDS) if announced.isdecimal() else 0


def is_multipart(request: Request) -> bool:
    """Whether the body is announced as a multipart form."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _read(request: Request, reader: _Reader) -> Form:
    try:
        async for chunk in request.stream():
            await reader.feed(chunk)
        return await reader.finish()
    except ClientDisconnect as error:
        raise ClientClosedRequest() from error
    except FormParserError as error:
        raise InvalidForm(reason=f"The multipart form is malformed: {error}") from error
    finally:
        reader.close()


def _boundary(request: Request) -> bytes:
    got = request.headers.get("content-type", "")
    media_type, options = parse_options_header(got)
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaType(expected="multipart/form-data", got=got)
    if not options.get(b"boundary"):
        raise InvalidForm(reason="The content type multipart/form-data lacks its boundary.")
    if len(options[b"boundary"]) > _BOUNDARY_BYTES:
        raise InvalidForm(reason=f"The boundary is longer than {_BOUNDARY_BYTES} characters.")
    return options[b"boundary"]


@dataclass(slots=True)
class _Part:
    name: str
    filename: str | None
    target: BinaryIO | None
    path: Path | None
    size: int = 0
    pending: bytearray = field(default_factory=bytearray)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class _Reader:
    """Feeds a push parser and writes the parts to disk. Its callbacks only collect; writing awaits a thread."""

    def __init__(self, boundary: bytes, folder: Path, limit: int, *, same_names: bool) -> None:
        self._folder = folder
        self._limit = limit
        self._same_names = same_names
        self._size = 0
        self._form = Form()
        self._part: _Part | None = None
        self._finished: list[_Part] = []
        self._headers: dict[str, str] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._files = 0
        self._header_bytes = 0
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        if not chunk:
            return
        if self._complete:  # what follows the closing boundary is read and ignored, but not without end
            self._count(len(chunk), "file")
            return
        self._parser.write(chunk)
        while self._finished:
            part = self._finished.pop(0)
            await run_in_threadpool(_settle, part)
            digest = part.digest.hexdigest()
            upload = Upload(part.path or Path(), part.filename or "", part.size, digest)
            self._form.files.setdefault(part.name, upload)
            self._form.in_order.append(upload)
        if self._part is not None and self._part.target is not None and len(self._part.pending) >= _WRITE_BYTES:
            await run_in_threadpool(_flush, self._part)

    async def finish(self) -> Form:
        """Return the form, when the body has ended."""
        self._parser.finalize()
        if not self._complete:
            raise InvalidForm(reason="The multipart form ends before its closing boundary.")
        return self._form

    def close(self) -> None:
        """Close a file that is still open."""
        for part in [*self._finished, *([self._part] if self._part else [])]:
            if part.target is not None:
                with contextlib.suppress(OSError):  # what a full disk did not take is tried once more
                    part.target.close()

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._header_bytes = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value.decode("latin-1")
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise InvalidForm(reason="A part of the form has no name.")
        files = {*self._form.files, *(part.name for part in self._finished)}
        is_file = b"filename" in options
        if name in self._form.fields or (name in files and not (is_file and self._same_names)):
            raise InvalidForm(reason=f"The form has the field '{name}' twice.", param=name)
        if is_file:
            self._files += 1
            if self._files > _MAX_FILES:
                raise InvalidForm(reason=f"The form has more than {_MAX_FILES} files.", param=name)
            path = self._folder / str(self._files)
            filename = _clean(options[b"filename"].decode("utf-8", "replace"))
            self._part = _Part(name, filename, path.open("wb"), path)
        else:
            if len(self._form.fields) == _MAX_FIELDS:
                raise InvalidForm(reason=f"The form has more than {_MAX_FIELDS} fields.", param=name)
            self._part = _Part(name, None, None, None)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part is None:
            return
        part.size += end - start
        if part.target is None:
            if part.size > _FIELD_BYTES:
                raise BodyTooLarge(limit=_FIELD_BYTES, param=part.name)
        else:
            self._count(end - start, part.name)
        part.pending += data[start:end]

    def _on_part_end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        if part.target is None:
            try:
                self._form.fields[part.name] = part.pending.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidForm(reason=f"The field '{part.name}' is not UTF-8.", param=part.name) from error
        else:
            self._finished.append(part)

    def _on_end(self) -> None:
        self._complete = True

    def _count(self, size: int, param: str) -> None:
        self._size += size
        if self._size > self._limit:
            raise UploadTooLarge(limit=self._limit, param=param)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _HEADER_BYTES:
            raise InvalidForm(reason=f"The headers of a part of the form are longer than {_HEADER_BYTES} bytes.")


def _flush(part: _Part) -> None:
    if part.target is not None:
        part.digest.update(part.pending)
        part.target.write(part.pending)
        part.pending = bytearray()


def _settle(part: _Part) -> None:
    _flush(part)
    if part.target is not None:
        part.target.close()


def _clean(filename: str) -> str:
    """Return the last component of the path that the client sent, printable and at most 255 characters."""
    name = _CONTROL.sub("", re.split(r"[/\\]", filename)[-1]).strip()
    return name[-255:] or "upload"
