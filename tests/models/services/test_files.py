from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from models.backbones import registry
from models.datasets.errors import InvalidDataset
from models.errors import InvalidRequest, NotFound
from models.records.customers import Customer
from models.services import files, jobs
from models.services.errors import FileInUse
from models.services.resources import Resources
from models.storage.errors import ObjectMissing

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


@pytest.fixture(params=["directory", "s3"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Both stores."""
    return str(request.param)


def _write(path: Path) -> Path:
    path.write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20)))
    return path


def test_long_texts_are_warned_of_by_the_base_that_reads_them() -> None:
    words = {"64": 9, "128": 7, "256": 5, "384": 4, "512": 4, "8192": 1}
    profile = {"words": words, "long_rows": {"256": [2, 3, 5, 7, 11], "8192": [7]}}
    long, cut = files.warn_of_long_texts(registry.MINILM, profile, "mails.csv")
    assert (long["code"], long["count"]) == ("windows", 5)
    assert "5 texts or more in 'mails.csv' are longer than the 256 tokens" in long["message"]
    assert "first in rows 2, 3, 5, 7, 11: they are read in windows" in long["message"]
    assert "first in row 7: what is behind is not read" in cut["message"]
    assert (long["rows"], cut["rows"]) == ([2, 3, 5, 7, 11], [7])
    assert (cut["code"], cut["count"]) == ("truncated", 1)
    (of_before,) = files.warn_of_long_texts(registry.MINILM, {"words": {"256": 1}}, "a.csv")
    assert (of_before["code"], "rows" in of_before, "first in" in of_before["message"]) == ("windows", False, False)
    assert files.warn_of_long_texts(registry.MINILM, {"words": {"64": 9, "128": 7}}, "a.csv") == []
    media = replace(registry.MINILM, modality="image", max_tokens=0)
    assert files.warn_of_long_texts(media, {}, "a.zip") == []


def test_a_file_is_validated_hashed_and_kept(resources: Resources, customer: MakeCustomer, tmp_path: Path) -> None:
    acme = customer()
    path = _write(tmp_path / "upload")
    file = files.create(resources, acme.id, files.NewFile(path, "../../tickets\n.csv"))
    content = path.read_bytes()
    assert (file.filename, file.bytes, file.sha256) == (
        "tickets.csv",
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
    found = files.get(resources, acme.id, file.id)
    assert (found.profile["task"], found.profile["rows"]) == ("text-classification", 20)
    assert list(found.profile["labels"].items()) == [("a", 10), ("b", 10)]
    with files.open_content(resources, acme.id, file.id) as stream:
        assert stream.read() == content
    twin = files.create(resources, acme.id, files.NewFile(path, "tickets.csv"))
    assert twin.id != file.id
    assert [row.id for row in files.list_page(resources, acme.id, purpose="fine-tune").data] == [twin.id, file.id]
    assert files.list_page(resources, acme.id, purpose="batch").data == []


def test_a_refused_file_leaves_nothing(resources: Resources, customer: MakeCustomer, tmp_path: Path) -> None:
    acme = customer()
    path = tmp_path / "upload"
    path.write_text("text,label\n")
    with pytest.raises(InvalidDataset):
        files.create(resources, acme.id, files.NewFile(path, "a.csv"))
    with pytest.raises(InvalidRequest, match="purpose"):
        files.create(resources, acme.id, files.NewFile(_write(path), "a.csv", "batch"))
    with pytest.raises(NotFound):
        files.create(resources, "cus_never", files.NewFile(_write(path), "a.csv"))
    assert list(resources.store.list("")) == []
    assert files.list_page(resources, acme.id).data == []


def test_files_of_others_do_not_exist(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    file = bench.file(customer())
    other = customer()
    for act in (files.get, files.open_content, files.delete):
        with pytest.raises(NotFound):
            act(resources, other.id, file.id)
    with pytest.raises(NotFound):
        files.list_page(resources, other.id, after=file.id)
    assert resources.store.exists(file.object_key)


def test_deleting_a_file(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    training, validation = bench.file(acme), bench.file(acme)
    job = bench.job(acme, training_file=training.id, validation_file=validation.id)
    for file in (training, validation):
        with pytest.raises(FileInUse, match=job.id):
            files.delete(resources, acme.id, file.id)
    jobs.cancel(resources, acme.id, job.id)
    files.delete(resources, acme.id, training.id)
    assert not resources.store.exists(training.object_key)
    with pytest.raises(NotFound):
        files.delete(resources, acme.id, training.id)
    assert resources.store.exists(validation.object_key)


def test_a_file_that_is_deleted_while_it_is_opened_is_not_found(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    deleted, lost = bench.file(acme), bench.file(acme)

    engine, begun = resources.database.engine, False

    def delete(*_: Any) -> None:
        nonlocal begun
        if not begun:
            begun = True
            files.delete(resources, acme.id, deleted.id)

    event.listen(engine, "checkin", delete)  # when the file has been looked up
    with pytest.raises(NotFound):
        files.open_content(resources, acme.id, deleted.id)
    event.remove(engine, "checkin", delete)
    assert begun
    # What is there and has lost its object is no fault of the caller's.
    resources.store.delete(lost.object_key)
    with pytest.raises(ObjectMissing):
        files.open_content(resources, acme.id, lost.id)
