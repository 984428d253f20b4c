from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import openai
import pytest

from models.identifiers import new_id
from models.records.files import File
from models.services.resources import open_resources

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

_BOUNDARY = "----boundary"


def test_the_sdk_uploads_waits_reads_lists_and_deletes(tenant: Tenant, table: str) -> None:
    client = tenant.openai
    created = client.files.create(file=("tickets.csv", table.encode()), purpose="fine-tune")
    assert created.id.startswith("file-")
    assert (created.object, created.bytes, created.filename) == ("file", len(table), "tickets.csv")
    ready = client.files.wait_for_processing(created.id)
    assert ready.status == "processed"
    assert ready.model_dump()["labels"] == {"card_arrival": 3, "refund": 3}
    assert client.files.content(created.id).read() == table.encode()
    assert [file.id for file in client.files.list()] == [created.id]
    assert client.files.delete(created.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(created.id)


def test_the_sdk_pages_through_files(tenant: Tenant, table: str) -> None:
    made = [tenant.openai.files.create(file=(f"{n}.csv", table.encode()), purpose="fine-tune").id for n in range(5)]
    listed = [file.id for file in tenant.openai.files.list(limit=2)]
    assert listed == made[::-1]


def test_no_page_of_files_is_larger_than_a_hundred_whatever_is_asked_for(server: Server, tenant: Tenant) -> None:
    made = [new_id("file-") for _ in range(101)]
    resources = open_resources(server.settings)
    try:
        with resources.database.transaction() as session:
            session.add_all(_row(tenant, file_id, created_at=1e9 + n) for n, file_id in enumerate(made))
    finally:
        resources.close()
    for asked in ({}, {"limit": 10_000}):
        page = tenant.http.get("/v1/files", params=asked).json()
        assert (len(page["data"]), page["has_more"]) == (100, True)
    # The SDK asks for the rest by itself.
    assert [file.id for file in tenant.openai.files.list(limit=10_000)] == made[::-1]
    assert tenant.http.get("/v1/files", params={"limit": 10_001}).status_code == 400


def test_bad_rows_are_named_with_their_mend(tenant: Tenant) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        tenant.openai.files.create(file=("bad.csv", b"text,label\na,x\n,x\nb,\n"), purpose="fine-tune")
    error = caught.value.response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert [detail["row"] for detail in error["details"]] == [2, 3]
    assert all(detail["reason"] and detail["mend"] for detail in error["details"])


def test_another_purpose_is_an_error_that_names_the_right_one(tenant: Tenant, table: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        tenant.openai.files.create(file=("a.csv", table.encode()), purpose="assistants")
    assert caught.value.param == "purpose"
    assert "fine-tune" in caught.value.message


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_over_the_limit_is_413_also_without_a_length(server: Server, tenant: Tenant, announced: bool) -> None:
    limit = server.settings.upload_limit_bytes
    head, tail = _envelope()

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(limit // 100_000 + 2):
            yield b"x" * 100_000
        yield tail

    content = b"".join(body()) if announced else body()
    answer = tenant.http.post("/v1/files", content=content, headers=_form_header())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "upload_too_large"
    assert str(limit) in answer.json()["error"]["message"]
    _assert_nothing_is_left(server)


def test_a_chunked_upload_below_the_limit_is_accepted(tenant: Tenant, table: str) -> None:
    head, tail = _envelope()
    pieces = [head[:10], head[10:], *[table[i : i + 3].encode() for i in range(0, len(table), 3)], tail]
    answer = tenant.http.post("/v1/files", content=iter(pieces), headers=_form_header())
    assert answer.status_code == 200, answer.text
    assert tenant.http.get(f"/v1/files/{answer.json()['id']}/content").text == table


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "closing boundary"),
        (b"no form at all", "malformed"),
        (f"--{_BOUNDARY}\r\n\r\nx\r\n--{_BOUNDARY}--\r\n".encode(), "no name"),
        (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na,b'.encode(),
            "ends before",
        ),
        (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="task"\r\n\r\nx\r\n--{_BOUNDARY}--\r\n'.encode(),
            "needs a file",
        ),
        (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--{_BOUNDARY}--\r\n'.encode(),
            "-F file=@PATH",
        ),
    ],
)
def test_malformed_forms_are_400(server: Server, tenant: Tenant, content: bytes, says: str) -> None:
    answer = tenant.http.post("/v1/files", content=content, headers=_form_header())
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    _assert_nothing_is_left(server)


def test_a_form_without_its_boundary_and_json_are_refused(tenant: Tenant) -> None:
    headers = {"content-type": "multipart/form-data"}
    assert tenant.http.post("/v1/files", content=b"x", headers=headers).status_code == 400
    assert tenant.http.post("/v1/files", json={}).status_code == 415


def test_unknown_form_fields_are_named(tenant: Tenant, table: str) -> None:
    answer = tenant.http.post("/v1/files", files={"file": ("a.csv", table)}, data={"purpos": "fine-tune"})
    assert answer.json()["error"]["param"] == "purpos"
    assert "purpose" in answer.json()["error"]["message"]
    answer = tenant.http.post("/v1/files", files={"data": ("a.csv", table)})
    assert answer.json()["error"]["param"] == "data"


def test_columns_may_have_other_names(tenant: Tenant) -> None:
    table = "body,queue\n" + "a,x\nb,x\nc,y\nd,y\n"
    columns = json.dumps({"text": "body", "label": "queue"})
    answer = tenant.http.post("/v1/files", files={"file": ("a.csv", table)}, data={"columns": columns})
    assert answer.status_code == 200, answer.text
    assert answer.json()["columns"] == {"text": "body", "label": "queue"}
    broken = tenant.http.post("/v1/files", files={"file": ("a.csv", table)}, data={"columns": "{"})
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "columns")


@pytest.mark.parametrize("filename", ["../../etc/passwd.csv", "C:\\data\\t.csv", "täglich 日本.csv", 'a"b;c.csv'])
def test_file_names_lose_their_folders_and_come_back(tenant: Tenant, table: str, filename: str) -> None:
    created = tenant.openai.files.create(file=(filename, table.encode()), purpose="fine-tune")
    assert "/" not in created.filename
    assert "\\" not in created.filename
    assert created.filename.endswith(".csv")
    content = tenant.http.get(f"/v1/files/{created.id}/content")
    assert content.status_code == 200
    assert content.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_a_job_needs_cannot_be_deleted(tenant: Tenant, upload: str) -> None:
    tenant.openai.fine_tuning.jobs.create(training_file=upload, model="minilm", suffix="keeps")
    with pytest.raises(openai.ConflictError):
        tenant.openai.files.delete(upload)


def test_a_repeated_upload_with_one_key_is_one_file(tenant: Tenant, table: str) -> None:
    def post(content: str) -> object:
        return tenant.http.post("/v1/files", files={"file": ("a.csv", content)}, headers={"idempotency-key": "up-1"})

    first, second, other = post(table), post(table), post(table + "x,refund\n")
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert other.status_code == 409
    assert len(tenant.http.get("/v1/files").json()["data"]) == 1


def _envelope() -> tuple[bytes, bytes]:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    return head.encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()


def _row(tenant: Tenant, file_id: str, created_at: float) -> File:
    profile = {"format": "csv", "task": "text-classification", "rows": 2, "columns": {}, "labels": {"a": 1, "b": 1}}
    return File(
        id=file_id,
        customer_id=tenant.id,
        filename="many.csv",
        purpose="fine-tune",
        bytes=1,
        sha256="0" * 64,
        object_key=f"customers/{tenant.id}/files/{file_id}",
        profile=profile,
        created_at=created_at,
    )


def _form_header() -> dict[str, str]:
    return {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}


def _assert_nothing_is_left(server: Server) -> None:
    folder = server.settings.cache_dir / "uploads"
    assert not folder.exists() or not list(folder.iterdir())
