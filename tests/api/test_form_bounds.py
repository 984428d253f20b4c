"""What a multipart form may hold beside its files: nothing that goes on without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Server, Tenant

_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n'
_BODY = _HEAD + b"\r\ntext,label\r\na,x\r\n--b--\r\n"


def _send(tenant: Tenant, body: Iterator[bytes], boundary: str = "b") -> httpx.Response:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return tenant.http.post("/v1/files", content=body, headers=headers)


def test_bytes_behind_the_closing_boundary_count(server: Server, tenant: Tenant) -> None:
    """Before, they were read for ever: one connection kept a process busy without a byte that counted."""
    limit = server.settings.upload_limit_bytes

    def endless() -> Iterator[bytes]:
        yield _BODY
        for _ in range(limit // 50_000 + 3):
            yield b"x" * 50_000

    answer = _send(tenant, endless())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")


@pytest.mark.parametrize("length", [71, 5_000])
def test_a_long_boundary_is_refused(tenant: Tenant, length: int) -> None:
    """Before, it was compared at every byte, or failed inside of the parser: 500."""
    answer = _send(tenant, iter([_BODY]), boundary="b" * length)
    assert answer.status_code == 400
    assert "boundary" in answer.json()["error"]["message"]


def test_the_headers_of_a_part_are_bounded(tenant: Tenant) -> None:
    """Before, they were collected in memory as long as they came."""

    def endless() -> Iterator[bytes]:
        yield _HEAD + b"X-Long: "
        for _ in range(20):
            yield b"x" * 1_000

    answer = _send(tenant, endless())
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_form"


def test_the_fields_of_a_form_are_bounded_beside_its_files(tenant: Tenant) -> None:
    fields = "".join(f'--b\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nx\r\n' for n in range(65))
    answer = _send(tenant, iter([fields.encode() + _BODY]))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The form has more than 64 fields."
