"""Zips of pictures with boxes that are made to hurt, over HTTP: each is refused in words, and the server goes on.

Single checks are tested in `tests/models/datasets/boxes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.api.conftest import Server, Tenant
from tests.models.datasets.boxes.box_files import (
    BOXES,
    coco,
    coco_archive,
    pictures,
    table,
    table_archive,
    voc,
    voc_archive,
    yolo_archive,
)
from tests.models.datasets.boxes.test_hostile_boxes import BOMB, EXTERNAL
from tests.models.datasets.media_files import archive, picture

SPACES = b" " * (60 * 2**20)
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)) + "names: *a40\n"


def document(**lists: object) -> bytes:
    return archive({**pictures(), "boxes.json": json.dumps(lists).encode()})


def numbers() -> bytes:
    text = coco().decode().replace('"bbox": [2, 3, 18, 22]', '"bbox": [NaN, Infinity, 1e308, 1e308]')
    return archive({**pictures(), "boxes.json": text.encode()})


ATTACKS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "entities of entities": (lambda: voc_archive(b=voc("b.jpg", (), head=BOMB)), "invalid_dataset", "document type"),
    "entity of a file": (lambda: voc_archive(b=voc("b.jpg", (), head=EXTERNAL)), "invalid_dataset", "document type"),
    "deep XML": (lambda: voc_archive(b=b"<annotation>" + b"<a>" * 600_000), "invalid_dataset", "inside each other"),
    "many categories": (
        lambda: document(images=[], categories=[{"id": n, "name": "x"} for n in range(150_000)]),
        "too_many_classes",
        "100000",
    ),
    "many images": (lambda: document(images=[{"id": n} for n in range(150_000)]), "too_many_pictures", "100000"),
    "deep JSON": (
        lambda: archive({**pictures(), "boxes.json": b'{"images": [' + b'{"a": [' * 10**6}),
        "invalid_dataset",
        "nested too deep",
    ),
    "numbers that are none": (numbers, "invalid_dataset", "not a finite number"),
    "a million lines": (lambda: yolo_archive(b=b"0 0.5 0.5 0.2 0.2\n" * 10**6), "invalid_dataset", "the limit is"),
    "names that lead out": (
        lambda: table_archive(table() + b"../../etc/passwd,40,30,cat,1,1,9,9\n"),
        "invalid_dataset",
        "not in the archive",
    ),
    "JSON bomb": (
        lambda: archive({**pictures(), "boxes.json": b'{"images": [' + SPACES, "more.json": SPACES}),
        "oversized_archive",
        "times its size",
    ),
    "pictures of another size": (
        lambda: archive({**pictures(), "boxes.json": coco(), "a.jpg": picture(size=(400, 300))}),
        "invalid_dataset",
        "has 400 x 300 pixels",
    ),
    "an id of two images": (
        lambda: coco_archive(images=lambda some: some[1].update(id=0)),
        "invalid_dataset",
        "has the id 0, as image 1",
    ),
    "a picture named twice": (
        lambda: coco_archive(images=lambda some: some[1].update(file_name="a.jpg")),
        "invalid_dataset",
        "twice",
    ),
    "aliases of aliases": (lambda: yolo_archive({"data.yaml": ALIASES.encode()}), "invalid_dataset", "aliases"),
    "deep YAML": (lambda: yolo_archive({"data.yaml": b"names: " + b"[" * 60_000}), "invalid_dataset", "too deep"),
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_in_words_and_its_reader_lives(server: Server, tenant: Tenant, attack: str) -> None:
    make, code, words = ATTACKS[attack]
    content = make()
    assert len(content) < server.settings.upload_limit_bytes
    ended = dict(server.app.state.context.resources.validations.ended)

    answer = tenant.http.post("/v1/files", files={"file": ("boxes.zip", content)}, data={"purpose": "fine-tune"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code), error["message"][:300]
    assert words in error["message"]
    assert error["details"][0]["mend"]
    assert len(answer.content) < 200_000
    now = server.app.state.context.resources.validations.ended
    assert {why: now[why] for why in ("died", "timeout", "memory", "fault")} == {
        why: ended[why] for why in ("died", "timeout", "memory", "fault")
    }


def test_pictures_with_boxes_are_taken(tenant: Tenant) -> None:
    answer = tenant.http.post("/v1/files", files={"file": ("boxes.zip", voc_archive())}, data={"purpose": "fine-tune"})

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["task"], found["rows"], found["labels"]) == ("object-detection", 6, {"cat": 3, "dog": 3})
    assert len(BOXES) == found["rows"]
