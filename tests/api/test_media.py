"""Pictures and sounds over HTTP: archives up, hostile ones refused by name, predictions by base64 and by form."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from api.schemas.report import ReportObject
from deploy.cli.main import app
from models.backbones import loading, registry
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.detection import canvas
from models.learning.training import train
from models.services import claims
from models.services.resources import open_resources
from tests.api.conftest import CSV, Server, Tenant, make_settings
from tests.claiming import claim as claim_job
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive, folders, picture, png_header, sound
from tests.models.learning.detection import shapes

PICTURES = {
    f"{label}/{n}.png": picture("PNG", size=(8 if label == "coarse" else 48, 40), seed=n)
    for label in ("coarse", "fine")
    for n in range(8)
}
SOUNDS = {
    f"{label}/{n}.wav": sound(seconds=0.1 if label == "click" else 0.9, seed=n)
    for label in ("click", "rain")
    for n in range(4)
}
FINE, COARSE, RAIN = PICTURES["fine/1.png"], PICTURES["coarse/1.png"], SOUNDS["rain/1.wav"]


@dataclass(frozen=True)
class Gallery:
    """A server with bases that see and hear; a customer with the models `textures`, `shapes`, `noises`, `tickets`."""

    server: Server
    tenant: Tenant
    command: Callable[..., Result]  # `graft …` as the customer, with its stdin


@pytest.fixture(scope="module")
def gallery(
    run_server: Any, broker_url: str, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    bases = {}
    for name, checkpoint, modality in (("eyes", "vit", "image"), ("maps", "resnet", "image"), ("ears", "ast", "audio")):
        media_checkpoints.write(folder / name, checkpoint)
        bases[name] = {"modality": modality, "source": {"folder": str(folder / name)}, "licence": "none"}
    bases["finder"] = {**bases["maps"], "kind": "detector"}  # jobs name it; none is run
    (folder / "bases.json").write_text(json.dumps(bases))
    changes = {"base_models_file": folder / "bases.json", "role": "all", "precision": "fp32"}
    settings = make_settings(folder / "data", new_database(), broker_url=broker_url, **changes)
    with run_server(settings) as server:
        tenant = server.tenant("acme")
        publish(server, tenant, folder / "textures.zip", archive(PICTURES), "eyes")
        publish(server, tenant, folder / "noises.zip", archive(SOUNDS), "ears")
        publish(server, tenant, folder / "tickets.csv", CSV.encode(), "minilm")
        with pytest.MonkeyPatch.context() as small:
            small.setattr(canvas, "SIDES", (96,))
            publish(server, tenant, folder / "shapes.zip", archive(shapes.members(range(14))), "maps")
        env = {"GRAFT_SERVER": server.url, "GRAFT_API_KEY": tenant.key}
        yield Gallery(server, tenant, lambda *words, **how: CliRunner().invoke(app, words, env=env, **how))


def upload(tenant: Tenant, content: bytes, name: str = "photos.zip") -> Any:
    return tenant.http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "fine-tune"})


def publish(server: Server, tenant: Tenant, path: Path, content: bytes, base_model: str) -> None:
    """What a customer and the worker do, for a model that is called like the file."""
    file = upload(tenant, content, path.name).json()
    body = {"training_file": file["id"], "suffix": path.stem, "model": base_model}
    job = tenant.http.post("/v1/fine_tuning/jobs", json=body).json()
    resources = open_resources(server.settings)
    try:
        claim = claim_job(resources, job["id"], "test-worker")
        assert claim is not None
        path.write_bytes(content)
        profile = claim.training_file.profile
        source = DatasetSource(path, profile["format"], profile["columns"])
        base = loading.load(registry.find(server.settings, job["model"]), device="cpu", precision="fp32", threads=1)
        epochs = Hyperparameters(n_epochs=2)
        request = TrainRequest(source, job["task"], path.with_suffix(""), strategy="head", hyperparameters=epochs)
        for event in train(request, base, stop=bool):
            if isinstance(event, VersionReady):
                claims.publish(resources, claim, event, promote=True)
            elif isinstance(event, Finished):
                claims.finish(resources, claim, event)
    finally:
        resources.close()


@pytest.mark.slow
def test_a_detector_leaves_its_loss_curve(gallery: Gallery) -> None:
    """A step a line, as the SDK reads it; of a head that is solved at once, there is none."""
    tenant = gallery.tenant
    jobs = {job.model_extra["suffix"]: job for job in tenant.openai.fine_tuning.jobs.list() if job.model_extra}
    (file,) = jobs["shapes"].result_files
    header, *lines = tenant.openai.files.content(file).text.splitlines()
    assert header == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3", "4"]  # 14 pictures in eights, twice
    assert all(float(line.split(",")[1]) > 0 for line in lines)
    assert tenant.http.get(f"/v1/files/{file}/content").text.splitlines()[0] == header
    assert jobs["textures"].result_files == []


def test_strategies_that_boxes_are_not_found_by_are_refused_at_once(gallery: Gallery) -> None:
    tenant = gallery.tenant
    file = upload(tenant, archive(shapes.members(range(5))), "drawn.zip").json()

    def posted(base: str, strategy: str) -> Any:
        body = {"training_file": file["id"], "model": base, "strategy": strategy, "suffix": "drawn"}
        return tenant.http.post("/v1/fine_tuning/jobs", json=body)

    def refused(base: str, *strategies: str) -> None:
        known = "auto, head, full" if base == "finder" else "auto, head, partial, full"
        for strategy in strategies:
            answer = posted(base, strategy)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"], error["code"]) == (400, "strategy", "unsupported_strategy")
            assert error["message"].endswith(f"Use one of: {known}.")

    refused("maps", "zero-shot", "few-shot", "lora", "scratch")
    refused("finder", "partial", "lora")
    assert posted("finder", "full").status_code == 200
    body = {"training_file": file["id"], "model": "auto", "strategy": "partial", "suffix": "drawn"}
    error = tenant.http.post("/v1/fine_tuning/jobs", json=body).json()["error"]
    assert "object-detection on the base model 'finder'" in error["message"]  # the one that the model is on


def url(medium: str, data: bytes) -> str:
    return f"data:{medium};base64,{base64.b64encode(data).decode()}"


def seen(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


def heard(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def predicted(tenant: Tenant, model: str, *inputs: Any) -> Any:
    answer = tenant.http.post(f"/v1/models/{model}/predict", json={"inputs": inputs, "top_k": 2})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_from_archive_to_prediction(gallery: Gallery) -> None:
    tenant = gallery.tenant
    (version,) = tenant.http.get("/v1/models/textures/versions").json()["data"]
    assert tenant.http.get("/v1/models/textures").json()["task"] == "image-classification"
    ReportObject.model_validate(version["report"])
    by_json = predicted(tenant, "textures", *({"image": base64.b64encode(data).decode()} for data in (FINE, COARSE)))
    assert [answer["label"] for answer in by_json] == ["fine", "coarse"]
    files = {"first": ("a.png", FINE), "second": ("b.png", COARSE)}
    by_form = tenant.http.post("/v1/models/textures/predict", files=files, data={"top_k": "2"})
    assert by_form.status_code == 200, by_form.text
    assert by_form.json()["predictions"] == by_json


def test_files_of_a_form_may_share_a_name_as_curl_sends_them(gallery: Gallery) -> None:
    path = "/v1/models/textures/predict"
    same = [("file", ("a.png", FINE)), ("file", ("b.png", COARSE)), ("file", ("c.png", FINE))]
    answer = gallery.tenant.http.post(path, files=same)
    assert [found["label"] for found in answer.json()["predictions"]] == ["fine", "coarse", "fine"]
    error = gallery.tenant.http.post(path, files=[*same, ("file", ("d.gif", picture("GIF")))]).json()["error"]
    assert (error["param"], error["code"]) == ("inputs[3]", "invalid_media")
    assert "inputs[3] ('d.gif') is a GIF picture" in error["message"]
    most = [("file", (f"{number}.png", COARSE)) for number in range(64)]
    beside = gallery.tenant.http.post(path, files=most, data={"top_k": "2"})
    assert [len(found["top"]) for found in beside.json()["predictions"]] == [2] * 64
    refused = gallery.tenant.http.post(path, files=[*most, same[0]], data={"top_k": "2"})
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "The form has more than 64 files.")
    unknown = gallery.tenant.http.post(path, files=same, data={"top": "2"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "top")
    large = gallery.tenant.http.post(path, files=[("file", ("a.png", b"x" * 300_000))])
    assert (large.status_code, large.json()["error"]["type"]) == (413, "invalid_request_error")
    text = gallery.tenant.http.post("/v1/models/tickets/predict", files=same)
    assert (text.status_code, text.json()["error"]["param"]) == (400, "inputs[0]")
    assert "this model reads text" in text.json()["error"]["message"]
    # A data set and a job have one file each: there two of a name are a mistake.
    twice = [("file", ("a.csv", CSV)), ("file", ("b.csv", CSV))]
    assert gallery.tenant.http.post("/v1/files", files=twice).json()["error"]["code"] == "invalid_form"


def test_chat_about_a_picture_and_a_sound_by_the_sdk(gallery: Gallery) -> None:
    tenant = gallery.tenant
    for model, part, given in (
        ("textures", seen(url("image/png", COARSE)), {"image": base64.b64encode(COARSE).decode()}),
        ("noises", heard(RAIN), {"audio": base64.b64encode(RAIN).decode()}),
    ):
        (expected,) = predicted(tenant, model, given)
        messages: Any = [
            {"role": "user", "content": [seen("https://example.org/an-earlier-one.png")]},
            {"role": "assistant", "content": "fine"},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]},
        ]
        answer = tenant.openai.chat.completions.create(model=model, messages=messages, logprobs=True, top_logprobs=2)
        (choice,) = answer.choices
        assert choice.message.content == expected["label"]
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert math.exp(choice.logprobs.content[0].logprob) == pytest.approx(expected["score"], rel=1e-4)
        stream = tenant.openai.chat.completions.create(model=model, messages=messages, stream=True)
        deltas = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(deltas) == expected["label"]


def test_boxes_in_a_chat_and_in_a_drawing(gallery: Gallery, tmp_path: Path) -> None:
    tenant, data = gallery.tenant, shapes.picture(3)[0]
    files, path = {"file": ("shapes.png", data)}, "/v1/models/shapes/predict"
    own, every = (
        tenant.http.post(path, files=files, data=how).json()["predictions"][0] for how in ({}, {"min_score": 0})
    )
    assert len(every["boxes"]) > 2
    messages: Any = [{"role": "user", "content": [seen(url("image/png", data))]}]
    chat = tenant.openai.chat.completions.create(model="shapes", messages=messages)
    assert json.loads(chat.choices[0].message.content or "") == own
    given, drawn = tmp_path / "shapes.png", tmp_path / "drawn.png"
    given.write_bytes(data)
    shown = gallery.command("predict", "shapes", str(given), "--min-score", "0", "--draw", str(drawn), "--json")
    assert json.loads(shown.stdout)["boxes"] == every["boxes"], shown.stderr
    with Image.open(given) as before, Image.open(drawn) as after:
        assert before.size == after.size
        assert before.convert("RGB").tobytes() != after.tobytes()


BOMB = png_header(8, 8, rows=b"\0" * 200, comment=b"\0" * 20_000_000)
HOSTILE = {
    "an address": (seen("https://example.org/cat.jpg"), ".image_url", "nothing is fetched"),
    "an address of a file": (seen("file:///etc/passwd"), ".image_url", "data:image/jpeg;base64"),
    "another type": (seen(url("text/html", FINE)), ".image_url", "of the type 'text/html'"),
    "a sound as a picture": (seen(url("image/png", RAIN)), ".image_url", "is a WAV sound where a picture is expected"),
    "broken base64": (seen("data:image/png;base64,@@@@"), ".image_url", "not valid base64"),
    "no base64": (seen("data:image/png,abc"), ".image_url", "without ';base64'"),
    "nothing": (seen("data:image/png;base64,"), ".image_url", "is an empty file"),
    "cut off": (seen(url("image/png", FINE[:500])), ".image_url", "cut off or damaged"),
    "huge": (seen(url("image/png", png_header(50_000, 50_000))), ".image_url", "2500000000 pixels"),
    "a bomb": (seen(url("image/png", BOMB)), ".image_url", "cut off or damaged (PNG: Decompressed data too large"),
    "no url": ({"type": "image_url"}, ".image_url", "is required"),
    "a part of another kind": (heard(RAIN), "", "is of type 'input_audio', and this model reads a picture"),
    "a file": ({"type": "file", "file": {"file_data": "x"}}, "", "is of type 'file'"),
    "a text alone": ({"type": "text", "text": "a cat"}, None, "holds none of image_url"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_chat_that_holds_no_picture_says_where_and_why(gallery: Gallery, case: str) -> None:
    part, place, reason = HOSTILE[case]
    body = {"model": "textures", "messages": [{"role": "user", "content": [part]}]}
    answer = gallery.tenant.http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    where = "messages[0]" if place is None else f"messages[0].content[0]{place}"
    assert (answer.status_code, error["param"]) == (400, where), error
    assert reason in error["message"]


def test_a_chat_asks_about_one_picture_and_a_model_of_text_about_none(gallery: Gallery) -> None:
    def refused(model: str, *content: dict[str, Any]) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": content}]}
        answer = gallery.tenant.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        return dict(answer.json()["error"])

    picture_part, text = seen(url("image/png", FINE)), {"type": "text", "text": "Where is my card?"}
    two = refused("textures", picture_part, text, picture_part)
    assert (two["param"], "2 parts" in two["message"]) == ("messages[0].content[2]", True)
    mixed = refused("tickets", text, picture_part)
    assert (mixed["param"], "'image_url': only text" in mixed["message"]) == ("messages", True)
    assert "this model reads a sound" in refused("noises", picture_part)["message"]


def test_predict_reads_paths_patterns_and_stdin(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(66):  # more than a form holds
        (tmp_path / f"{number:02}.png").write_bytes(COARSE if number else FINE)

    def labels(*words: str, **how: Any) -> list[str]:
        shown = gallery.command("predict", "textures", *words, "--json", **how)
        return [json.loads(line)["label"] for line in shown.stdout.splitlines()]

    assert labels(str(tmp_path / "00.png"), str(tmp_path / "01.png")) == ["fine", "coarse"]
    assert labels(str(tmp_path / "*.png")) == ["fine", *["coarse"] * 65]
    assert labels("-", input=FINE) == labels(input=FINE) == ["fine"]


def test_predict_says_what_is_no_picture(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "rain.wav").write_bytes(RAIN)
    (tmp_path / "a.png").write_bytes(FINE)
    for words, reason in (
        (("textures", str(tmp_path / "rain.wav")), "is a WAV sound where a picture is expected"),
        (("textures", str(tmp_path / "none.png")), "there is no file"),
        (("textures", str(tmp_path / "*.jpg")), "No file matches"),
        (("textures", str(tmp_path)), "is a folder"),
        (("textures", str(tmp_path / "a.png"), "--pairs"), "--pairs is for"),
        (("textures", str(tmp_path / "a.png"), "--draw", "b.png"), "'textures' is for image-classification"),
        (("tickets", str(tmp_path / "a.png")), "'tickets' reads text, and"),
    ):
        shown = gallery.command("predict", *words)
        assert shown.exit_code == 1
        assert reason in shown.stderr.replace("\n", " "), shown.stderr


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
