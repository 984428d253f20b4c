"""Whole files: the shipped sample, real data sets where there are any, and one larger than the memory it may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import models.datasets.errors
from models.datasets.errors import InvalidDataset
from models.datasets.reading import read
from models.datasets.validation import Limits, inspect

SAMPLES = Path(__file__).parents[3] / "deploy" / "cli" / "samples"


def test_the_shipped_sample_is_clean_and_its_test_set_held_out():
    sets = []
    for name in ("tickets.csv", "tickets_test.csv"):
        found = inspect(SAMPLES / name, filename=name, limits=Limits())
        assert found.warnings == []
        assert len(found.labels) == 8
        rows = read(SAMPLES / name, format=found.format, task=found.task, columns=found.columns)
        sets.append({str(row.input).casefold() for row in rows})
    assert (len(sets[0]), len(sets[1])) == (400, 80)
    assert not sets[0] & sets[1]


@pytest.mark.parametrize(
    ("name", "columns", "rows", "labels"),
    [
        ("sms_spam/train.csv", None, 4_136, 2),
        ("banking77/train.csv", {"label": "category"}, 10_003, 77),
        ("banking77/test.csv", {"label": "category"}, 3_080, 77),
        ("stsb/en_train.csv", {"text": "sentence1", "text_pair": "sentence2", "value": "score"}, 5_749, 0),
        ("wnut17/train.jsonl", None, 3_394, 6),
    ],
)
def test_real_data_sets(shared_dir, name, columns, rows, labels):
    path = shared_dir / "data" / name
    if not path.exists():
        pytest.skip(f"no {name} here")
    found = inspect(path, filename=path.name, columns=columns, limits=Limits())
    assert (found.rows, len(found.labels)) == (rows, labels)
    assert sum(1 for _ in read(path, format=found.format, task=found.task, columns=found.columns)) == rows


def test_memory_does_not_grow_with_the_file(tmp_path, measured):
    path = tmp_path / "large.csv"
    line = "a fairly long text about nothing in particular, number {} " + "and so on " * 40
    with path.open("w") as file:
        file.write("text,label\n")
        for number in range(60_000):
            file.write(f'"{line.format(number)}",{"abc"[number % 3]}\n')
    assert path.stat().st_size > 25_000_000
    code, memory = measured(path)
    assert code == "accepted"
    assert memory < 20_000_000


def test_a_file_that_was_accepted_and_then_damaged_is_an_error_when_it_is_read(tmp_path):
    path = tmp_path / "rows"
    path.write_text("text,label\na,x\n,y\n")
    rows = read(path, format="csv", task="text-classification", columns={"text": "text", "label": "label"})
    assert next(rows).input == "a"
    with pytest.raises(InvalidDataset):
        next(rows)


def test_every_error_of_the_room_has_a_reason_and_a_mend():
    errors = [
        error
        for error in vars(models.datasets.errors).values()
        if isinstance(error, type) and issubclass(error, InvalidDataset) and error is not InvalidDataset
    ]
    assert len(errors) >= 15
    for error in errors:
        assert error.reason != InvalidDataset.reason or error.mend != InvalidDataset.mend
        assert error.reason in error.message
        assert error.mend in error.message
        assert error.status == 400
        assert error.__doc__


def test_the_room_does_not_import_torch():
    script = "import sys, models.datasets.validation, models.datasets.reading; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
