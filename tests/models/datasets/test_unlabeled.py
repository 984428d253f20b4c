"""Files of rows without labels: what their rows are, what of them is not read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.datasets.errors import InvalidDataset
from models.datasets.examples import DatasetProfile, Example, Media, TextPair
from models.datasets.limits import Limits
from models.datasets.reading import read
from models.datasets.validation import inspect
from tests.models.datasets.media_files import archive, picture, sound

Look = Callable[..., DatasetProfile]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def inspect_content(content: bytes, **how: object) -> DatasetProfile:
        (tmp_path / "rows").write_bytes(content)
        return inspect(tmp_path / "rows", filename="rows", role="unlabeled", limits=Limits(), **how)  # type: ignore[arg-type]

    return inspect_content


def examples(folder: Path, found: DatasetProfile) -> list[Example]:
    return list(read(folder / "rows", format=found.format, task=found.task, columns=found.columns))


@pytest.mark.parametrize(
    ("content", "kind", "rows"),
    [
        (b"text\nwhere is it\nhello\n", "unlabeled-text", 2),
        (b'{"text": "where is it"}\n{"text": "hello"}\n{"text": "hello"}\n', "unlabeled-text", 3),
        (b"text,text_pair\nwhere,is it\n", "unlabeled-text-pair", 1),
        (archive({"1.png": picture("PNG"), "deep/er/2.png": picture("PNG", seed=2)}), "unlabeled-image", 2),
        (archive({"1.wav": sound(), "2.wav": sound(seed=2)}), "unlabeled-audio", 2),
    ],
)
def test_rows_are_what_their_inputs_are(look: Look, tmp_path: Path, content: bytes, kind: str, rows: int) -> None:
    found = look(content)
    assert (found.task, found.rows, found.role, found.labels, found.warnings) == (kind, rows, "unlabeled", {}, [])
    read_again = examples(tmp_path, found)
    assert len(read_again) == rows
    wanted = {"unlabeled-text": str, "unlabeled-text-pair": TextPair}.get(kind, Media)
    assert all(isinstance(example.input, wanted) for example in read_again)


def test_labels_are_not_read_and_a_warning_says_so(look: Look, tmp_path: Path) -> None:
    found = look(b"text,label,note\nwhere is it,card,\nhello,,\n")  # nor have they to be there
    (warning,) = found.warnings
    assert (warning["code"], warning["columns"]) == ("answers_not_read", ["label", "note"])
    assert [example.target for example in examples(tmp_path, found)] == ["", ""]


def test_columns_and_a_task_say_what_is_meant(look: Look) -> None:
    assert look(b"body\na\nb\n", columns={"text": "body"}).columns == {"text": "body"}
    pairs = b"text,text_pair\nwhere,is it\n"
    assert look(pairs, task="text-classification").task == "unlabeled-text"
    assert look(pairs, task="text-pair-classification").task == "unlabeled-text-pair"


@pytest.mark.parametrize(
    ("content", "how", "reason"),
    [
        (b"text\nhello\n \n", {}, "row 2"),
        (b"body\nhello\n", {}, 'columns={"text": "body"}'),
        (b"text\nhello\n", {"task": "text-pair-classification"}, "No column 'text_pair'"),
        (b"text\nhello\n", {"task": "telepathy"}, "no task 'telepathy'"),
        (b"text\n", {}, "no rows"),
        (archive({"1.png": picture("PNG"), "2.png": picture("GIF")}), {}, "is a GIF picture"),
    ],
)
def test_what_is_wrong_is_named(look: Look, content: bytes, how: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidDataset) as caught:
        look(content, **how)
    assert reason in str(caught.value)
