"""JSON bodies: counted while they are read, parsed strictly, and refused with the place of the error."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.errors import BodyTooLarge, ClientClosedRequest, CompressedBody, InvalidJson, UnsupportedMediaType
from models.datasets.formats import repeated_keys
from models.datasets.problems import excerpt


class JsonRequest(Request):
    """A request whose body is read once, under a limit, before its route sees it."""

    _parsed: Any = None

    async def load(self, limit: int) -> None:
        """Read and parse the body; at most `limit` bytes are ever held."""
        self._body = await read_bounded(self, limit)
        if self._body:
            _check_headers(self)
            self._parsed = parse(self._body)

    async def json(self) -> Any:
        """Return the body that `load` has parsed."""
        return self._parsed


async def read(request: Request, limit: int) -> Any:
    """Return the parsed body of a request; raises UnsupportedMediaType, CompressedBody, BodyTooLarge, InvalidJson."""
    body = await read_bounded(request, limit)
    if body:
        _check_headers(request)
    return parse(body)


async def read_bounded(request: Request, limit: int) -> bytes:
    """Return the whole body; raises BodyTooLarge as soon as more than `limit` bytes are announced or have come."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit=limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(limit=limit)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise ClientClosedRequest() from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(body: bytes) -> Any:
    """Parse JSON per RFC 8259: no NaN, no infinity, no lone surrogates, at most 1,024 levels; raises InvalidJson.

    A key twice in an object is refused as well. The check costs about as much as the parsing: a microsecond for a text.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"(line {error.lineno}, column {error.colno})"
        raise InvalidJson(reason=f"{error.msg.split(': line')[0]} {place}") from error
    if (twice := repeated_keys.find(body, value)) is not None:
        raise InvalidJson(reason=f"an object in it has the key '{excerpt(twice)}' twice; rename or remove one of them")
    return value


def _check_headers(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise CompressedBody(encoding=encoding[:40])
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(expected="application/json", got=media_type)
