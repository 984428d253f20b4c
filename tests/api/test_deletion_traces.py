"""What a search of the data folder finds of deleted things: nothing.

Before, a deleted customer's rows could be read in the database's log and free pages, its features in the workers'
cache, a deleted version's weights in the predictors' until others pushed them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.services.caches import features_folder

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

_CANARY = "kanarienvogel"
_TABLE = "text,label\n" + "".join(
    f"{_CANARY} asks for {what} number {number},{_CANARY}-{what}\n" for number in range(12) for what in ("card", "fee")
)


def _holders(folder: Path, *, of: str = _CANARY) -> list[str]:
    """Files whose name or content has the word."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if of in path.name or (path.is_file() and of.encode() in path.read_bytes())
    ]


def _until_gone(folder: Path, *, of: str = _CANARY) -> None:
    """Predictors follow changes within a second."""
    deadline = time.monotonic() + 20
    while found := _holders(folder, of=of):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.fixture
def features(server: Server, tenant: Tenant) -> Path:
    """What a worker on this data folder keeps of the customer."""
    folder = features_folder(server.settings.cache_dir, tenant.id)
    folder.mkdir(parents=True)
    (folder / "0.safetensors").write_text(_CANARY)
    return folder


def _upload(tenant: Tenant) -> dict[str, Any]:
    headers = {"idempotency-key": _CANARY}
    form = {"file": (f"{_CANARY}.csv", _TABLE)}
    answer = tenant.http.post("/v1/files", files=form, data={"purpose": "fine-tune"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_nothing_of_a_deleted_customer_is_found(
    server: Server, features: Path, tenant: Tenant, publish: Callable[..., Any]
) -> None:
    file = _upload(tenant)
    body = {"training_file": file["id"], "suffix": f"{_CANARY}-model", "metadata": {"of": _CANARY}}
    job = tenant.http.post("/v1/fine_tuning/jobs", json=body).json()
    publish(f"{_CANARY}-served", versions=2)
    named = {"name": f"{_CANARY}-inc"}  # an answer that is kept to be replayed
    other = server.operator.post("/v1/customers", json=named, headers={"idempotency-key": tenant.id}).json()
    predicted = tenant.http.post(f"/v1/models/{_CANARY}-served/predict", json={"input": f"Where is {_CANARY}?"})
    assert predicted.status_code == 200
    tenant.http.post("/v1/keys", json={"name": _CANARY})
    assert tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}").status_code == 200
    folder = server.settings.data_dir
    found = _holders(folder)
    assert len(found) >= 2, found  # on SQLite the database as well
    assert server.operator.delete(f"/v1/customers/{tenant.id}").json()["complete"] is True
    assert server.operator.delete(f"/v1/customers/{other['id']}").status_code == 200
    assert not features.exists()  # at once
    _until_gone(folder)


def test_nothing_of_a_deleted_file_is_found(server: Server, features: Path, tenant: Tenant) -> None:
    file = _upload(tenant)
    assert tenant.http.delete(f"/v1/files/{file['id']}").status_code == 200
    assert not features.exists()
    _until_gone(server.settings.data_dir)
    # Nor is it answered once more to who repeats the upload.
    assert _upload(tenant)["id"] != file["id"]


def test_the_weights_of_a_deleted_version_leave_the_predictor(
    server: Server, tenant: Tenant, publish: Callable[..., Any]
) -> None:
    publish("tickets", versions=2)
    for number in (1, 2):
        assert tenant.http.post(f"/v1/models/tickets@{number}/predict", json={"input": "x"}).status_code == 200
    copies = server.settings.cache_dir / "adapters"
    assert len(list(copies.glob(f"*/{tenant.id}/*"))) == 2
    assert tenant.http.delete("/v1/models/tickets/versions/1").status_code == 200
    deadline = time.monotonic() + 20
    while len(list(copies.glob(f"*/{tenant.id}/*"))) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tenant.http.post("/v1/models/tickets/predict", json={"input": "x"}).json()["version"] == 2
    assert tenant.http.delete("/v1/models/tickets").status_code == 200
    while list(copies.glob(f"*/{tenant.id}/*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
