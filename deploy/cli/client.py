"""A thin client of the API over httpx: JSON in and out, errors as exceptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from deploy.cli.connection import Connection
from deploy.cli.errors import ApiRefused, NotGraft, NotText, ServerSilent, ServerUnreachable

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
# Training data may be large and the line slow; and after the last byte the server reads all of it and stores it.
# Waits for an upload, or for texts that are written: minutes, where the base is large and the queue long.
_UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=5.0, write=300.0, read=900.0)
# What a proxy answers while the server behind it starts again.
_OF_PROXIES = (502, 503, 504)

_EXCERPT_CHARS = 40


class Client:
    """Requests of one connection. Use it as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self.server = connection.server
        # Connections that drop before the request was sent are tried again; anything else is the caller's to decide.
        with self._explaining():
            self._http = httpx.Client(
                base_url=connection.server,
                headers={"Authorization": f"Bearer {connection.key}"},
                timeout=_TIMEOUT,
                transport=httpx.HTTPTransport(retries=2) if _is_local(connection.server) else None,
            )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Send a GET. Raises ApiRefused, ServerUnreachable, NotGraft or NotText, as all of these methods do."""
        return self._send("GET", path, params={name: value for name, value in params.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None, *, slow: bool = False) -> dict[str, Any]:
        """POST a JSON body; `slow`: the answer may take minutes."""
        return self._send("POST", path, json=body or {}, timeout=_UPLOAD_TIMEOUT if slow else _TIMEOUT)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT a JSON body."""
        return self._send("PUT", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH a JSON body."""
        return self._send("PATCH", path, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        """Send a DELETE."""
        return self._send("DELETE", path)

    def upload(self, path: str, *, fields: dict[str, str], files: dict[str, Any]) -> dict[str, Any]:
        """POST a multipart form."""
        return self._send("POST", path, data=fields, files=files, timeout=_UPLOAD_TIMEOUT)

    def download(self, path: str) -> bytes:
        """GET a file."""
        return self._request("GET", path, timeout=_UPLOAD_TIMEOUT).content

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """POST a JSON body and yield the data of each server-sent event."""
        with (
            self._explaining(),
            self._http.stream("POST", path, json=body, timeout=_UPLOAD_TIMEOUT) as response,
        ):
            if not response.is_success:
                response.read()
                raise self._refused(response)
            for line in response.iter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                event = json.loads(data)
                if "error" in event:  # in the middle of an answer
                    raise ApiRefused(response.status_code, event["error"], response.headers.get("x-request-id"))
                yield event

    def each(
        self, path: str, *, most: int | None = None, first_after: str | None = None, **params: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield every item of a list behind `first_after`, page by page, at most `most`."""
        after = first_after
        count = 0
        while most is None or count < most:
            page = self.get(path, after=after, limit=100 if most is None else min(100, most - count), **params)
            yield from page["data"]
            count += len(page["data"])
            if not page.get("has_more") or not page["data"]:
                return
            after = page["data"][-1]["id"]

    def _send(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        response = self._request(method, path, **how)
        body = _json_of(response)
        if isinstance(body, dict):
            return body
        raise self._refused(response)

    def _request(self, method: str, path: str, **how: Any) -> httpx.Response:
        with self._explaining():
            response = self._http.request(method, path, **how)
        if response.is_success:
            return response
        raise self._refused(response)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Raise errors of ours in the place of httpx's, and NotText for what an argument has that is no UTF-8."""
        try:
            yield
        except httpx.TransportError as error:
            raise self._failure(error) from None
        except httpx.InvalidURL as error:
            raise ServerUnreachable(server=self.server, reason=error) from None
        except UnicodeEncodeError as error:
            before, after = error.object[: error.start], error.object[error.start :]
            text = before.rpartition('"')[2][-_EXCERPT_CHARS:] + after.partition('"')[0][:_EXCERPT_CHARS]
            raise NotText(text=text) from None

    def _failure(self, error: httpx.TransportError) -> ServerUnreachable | ServerSilent:
        if isinstance(error, httpx.ReadTimeout):
            return ServerSilent(server=self.server, seconds=error.request.extensions["timeout"]["read"])
        return ServerUnreachable(server=self.server, reason=error or type(error).__name__)

    def _refused(self, response: httpx.Response) -> ApiRefused | ServerUnreachable | NotGraft:
        body = _json_of(response)
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            return ApiRefused(response.status_code, body["error"], response.headers.get("x-request-id"))
        if response.status_code in _OF_PROXIES:
            reason = f"a proxy answers {response.status_code} in its place"
            return ServerUnreachable(server=self.server, reason=reason)
        return NotGraft(server=self.server, status=response.status_code, start=response.text[:200])


def _json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _is_local(server: str) -> bool:
    return httpx.URL(server).host in ("127.0.0.1", "localhost", "::1")
