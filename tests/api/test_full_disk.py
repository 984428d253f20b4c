"""A disk without room: uploads are refused with 507, keep nothing, and work again as soon as there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from tests.api.conftest import Server, Tenant, make_settings, serve
from tests.file_sizes import files_up_to

_ROOM = 1_200_000


def test_an_upload_on_a_full_disk_gets_507_and_works_when_there_is_room(server: Server, tenant: Tenant) -> None:
    """Before, it was a 500 that blamed nobody and promised nothing."""
    table = "text,label\n" + "".join(f"{'words ' * 100}{n},label-{n % 2}\n" for n in range(2_500))
    assert _ROOM < len(table) < server.settings.upload_limit_bytes

    def send() -> httpx.Response:
        return tenant.http.post("/v1/files", files={"file": ("t.csv", table)}, data={"purpose": "fine-tune"})

    with files_up_to(_ROOM):
        refused = send()
        assert server.anonymous.get("/readyz").status_code == 200
    assert refused.status_code == 507
    assert refused.json()["error"]["code"] == "disk_full"
    assert refused.headers["retry-after"] == "30"
    assert list((server.settings.cache_dir / "uploads").iterdir()) == []
    assert tenant.http.get("/v1/files").json()["data"] == []
    assert send().status_code == 200


def test_rows_in_a_jobs_body_get_507_and_work_when_there_is_room(
    tmp_path: Path, broker_url: str, new_database: Callable[[], str]
) -> None:
    rows = [{"text": f"{'words ' * 100}{number}", "label": f"label-{number % 2}"} for number in range(2_500)]
    settings = make_settings(tmp_path, new_database(), broker_url=broker_url, body_limit_bytes=2_000_000)
    with serve(settings) as server:
        tenant = server.tenant("acme")

        def send() -> httpx.Response:
            return tenant.http.post("/v1/fine_tuning/jobs", json={"training_data": rows, "model": "minilm"})

        with files_up_to(_ROOM):
            refused = send()
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
        assert list((settings.cache_dir / "uploads").iterdir()) == []
        assert tenant.http.get("/v1/fine_tuning/jobs").json()["data"] == []
        assert send().status_code == 200
