"""Pictures and sounds over HTTP: archives up, hostile ones refused by name, predictions by base64 and by form."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from api.schemas.report import ReportObject
from deploy.cli.main import app
from models.backbones import loading, registry
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train
from models.services import claims
from models.services.resources import open_resources
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive, folders, picture, png_header, sound

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

PICTURES = {
    f"{label}/{n}.png": picture("PNG", size=(8 if label == "coarse" else 48, 40), seed=n)
    for label in ("coarse", "fine")
    for n in range(8)
}


@pytest.fixture
def gallery(settings_for: Callable[..., Any], run_server: Any, tmp_path: Path) -> Iterator[Server]:
    """A server whose operator has added a base that reads pictures."""
    media_checkpoints.write(tmp_path / "vit", "vit")
    entry = {"modality": "image", "source": {"folder": str(tmp_path / "vit")}, "licence": "none"}
    (tmp_path / "bases.json").write_text(json.dumps({"eyes": entry}))
    with run_server(settings_for(base_models_file=tmp_path / "bases.json", role="all", precision="fp32")) as running:
        yield running


def upload(tenant: Tenant, content: bytes) -> Any:
    return tenant.http.post("/v1/files", files={"file": ("photos.zip", content)}, data={"purpose": "fine-tune"})


def publish(server: Server, job: dict[str, Any], folder: Path) -> None:
    """What the worker does with a job."""
    resources = open_resources(server.settings)
    try:
        claim = claims.claim(resources, job["id"], "test-worker")
        assert claim is not None
        path = folder / "photos.zip"
        path.write_bytes(archive(PICTURES))
        file = claim.training_file
        source = DatasetSource(path, file.profile["format"], file.profile["columns"])
        base = loading.load(registry.find(server.settings, job["model"]), device="cpu", precision="fp32", threads=1)
        for event in train(TrainRequest(source, claim.job.task, folder / "out", strategy="head"), base, stop=bool):
            if isinstance(event, VersionReady):
                claims.publish(resources, claim, event, promote=True)
    finally:
        resources.close()


def test_from_archive_to_prediction(gallery: Server, tmp_path: Path) -> None:
    tenant = gallery.tenant("acme")
    file = upload(tenant, archive(PICTURES)).json()
    job = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": file["id"], "suffix": "textures"}).json()
    assert (job["model"], job["task"]) == ("eyes", "image-classification")
    publish(gallery, job, tmp_path)
    (version,) = tenant.http.get("/v1/models/textures/versions").json()["data"]
    ReportObject.model_validate(version["report"])
    fine, coarse = PICTURES["fine/1.png"], PICTURES["coarse/1.png"]
    url = "/v1/models/textures/predict"
    texts = [{"image": base64.b64encode(data).decode()} for data in (fine, coarse)]
    by_json = tenant.http.post(url, json={"inputs": texts, "top_k": 2})
    assert by_json.status_code == 200, by_json.text
    assert by_json.json()["task"] == "image-classification"
    by_form = tenant.http.post(url, files={"first": ("a.png", fine), "second": ("b.png", coarse)}, data={"top_k": "2"})
    assert by_form.status_code == 200, by_form.text
    assert by_form.json()["predictions"] == by_json.json()["predictions"]
    assert [answer["label"] for answer in by_form.json()["predictions"]] == ["fine", "coarse"]
    (tmp_path / "a.png").write_bytes(fine)
    (tmp_path / "b.png").write_bytes(coarse)
    words = ["predict", "textures", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--json"]
    env = {"GRAFT_SERVER": gallery.url, "GRAFT_API_KEY": tenant.key}
    shown = CliRunner().invoke(app, words, env=env)
    assert [json.loads(line)["label"] for line in shown.stdout.splitlines()] == ["fine", "coarse"], shown.stderr
    missing = CliRunner().invoke(app, ["predict", "textures", "nowhere.png"], env=env)
    assert "there is no file nowhere.png" in missing.stderr
    for body, param in (
        ({"json": {"input": "no base64!"}}, "inputs[0]"),
        ({"files": {"file": ("cat.jpg", picture("GIF"))}}, "inputs[0]"),
        ({"files": {"file": ("huge.png", png_header(50_000, 50_000))}}, "inputs[0]"),
        ({"files": {"file": ("a.png", fine)}, "data": {"top_k": "many"}}, "top_k"),
        ({"files": {"file": ("a.png", fine)}, "data": {"inputs": "x"}}, "inputs"),
        ({"files": {"file": ("a.png", fine)}, "data": {"colour": "red"}}, "colour"),
    ):
        answer = tenant.http.post(url, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_hostile_archives_are_refused_by_name_and_the_next_one_is_read(tenant: Tenant) -> None:
    hostile = {
        "ants/../../x.jpg": picture(),
        "ants/huge.png": png_header(50_000, 50_000),
        "ants/cat.jpg": picture("GIF"),
        "ants/cut.jpg": picture(size=(200, 200))[:3_000],
        "ants/sound.wav": sound()[:600],
    }
    for name, content in hostile.items():
        answer = upload(tenant, archive({**folders(), name: content}))
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert error["code"] == "invalid_dataset"
        assert [detail["member"] for detail in error["details"]] == [name]
    bomb = archive({**folders(), **{f"ants/{n}.bmp": b"\0" * 60_000_000 for n in range(3)}})
    assert upload(tenant, bomb).json()["error"]["code"] == "oversized_archive"
    assert upload(tenant, archive(folders())).status_code == 200


def test_without_a_base_that_reads_sounds_the_job_is_refused_with_the_mend(tenant: Tenant) -> None:
    sounds = {f"{label}/{n}.wav": sound(seed=n) for label in ("one", "two") for n in range(4)}
    file = upload(tenant, archive(sounds)).json()
    answer = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": file["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_base_model")
    assert "GRAFT_BASE_MODELS_FILE" in answer.json()["error"]["message"]
    answer = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": file["id"], "model": "minilm"})
    assert "needs one that reads audio" in answer.json()["error"]["message"]
