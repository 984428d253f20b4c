"""A job with a file of rows without labels: which files it takes, and what keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.records.customers import Customer
from models.records.files import File
from models.services import files
from models.services.errors import FileInUse, UnusableFile
from models.services.files import NewFile
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]
Upload = Callable[..., File]


@pytest.fixture
def upload(resources: Resources, tmp_path: Path) -> Upload:
    def store(owner: Customer, content: str, purpose: str = "unlabeled", **more: Any) -> File:
        path = tmp_path / "more.csv"
        path.write_text(content)
        return files.create(resources, owner.id, NewFile(path, path.name, purpose, **more))

    return store


def test_it_goes_with_the_job_to_the_worker(
    resources: Resources, bench: Bench, customer: MakeCustomer, upload: Upload
) -> None:
    acme = customer()
    more = upload(acme, "text,label\nhello,\nwhere is it,x\n")
    assert (more.purpose, more.profile["role"], more.profile["rows"]) == ("unlabeled", "unlabeled", 2)
    job = bench.job(acme, training_file=bench.file(acme).id, unlabeled_file=more.id)
    assert job.unlabeled_file_id == more.id
    assert [warning["code"] for warning in job.warnings if warning["file"] == more.id] == ["answers_not_read"]
    with pytest.raises(FileInUse):
        files.delete(resources, acme.id, more.id)
    claim = bench.claim(job)
    assert claim.unlabeled_file is not None
    assert claim.unlabeled_file.id == more.id


def test_what_a_job_cannot_learn_from_is_refused(bench: Bench, customer: MakeCustomer, upload: Upload) -> None:
    acme = customer()
    training, more = bench.file(acme), upload(acme, "text\nhello\n")
    pairs = upload(acme, "text,text_pair\nhello,you\n")
    values = upload(acme, "text,value\na,1\nb,2\nc,3\nd,4\n", "fine-tune")
    for asked, param, reason in (
        ({"training_file": training.id, "unlabeled_file": training.id}, "unlabeled_file", "purpose 'unlabeled'"),
        ({"training_file": training.id, "unlabeled_file": pairs.id}, "unlabeled_file", "are texts, those of"),
        ({"training_file": values.id, "unlabeled_file": more.id}, "unlabeled_file", "one label per row"),
        ({"training_file": training.id, "unlabeled_file": more.id, "strategy": "zero-shot"}, "unlabeled_file", "zero"),
        ({"training_file": more.id}, "training_file", "uploaded as rows without labels"),
        ({"training_file": more.id, "model": "minilm"}, "training_file", "uploaded as rows without labels"),
        ({"training_file": training.id, "validation_file": more.id}, "validation_file", "unlabeled-text"),
    ):
        with pytest.raises(UnusableFile, match=reason) as caught:
            bench.job(acme, **asked)
        assert caught.value.param == param
