"""Zip archives of pictures and sounds as people make them."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import pytest

from models.datasets.errors import OneClass, SeveralTables, UnknownColumns, WrongFormat
from models.datasets.examples import Media
from models.datasets.validation import Limits, inspect
from tests.models.datasets.media_files import archive, folders, picture, sound


def table(*rows: dict[str, str]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def test_one_folder_per_label(examples, profile):
    content = archive(folders())
    found = profile(content)
    assert (found.format, found.task, found.rows) == ("zip", "image-classification", 6)
    assert found.labels == {"ants": 3, "bees": 3}
    rows = examples(content)
    assert [row.target for row in rows] == ["ants"] * 3 + ["bees"] * 3
    assert rows[0].input == Media("ants/0.jpg", picture(seed=0))


@pytest.mark.parametrize("around", ["", "photos/", "a/b/c/", "./"])
def test_folders_around_all_labels_do_not_matter(profile, around):
    members = {around + name: content for name, content in folders().items()}
    assert profile(archive(members)).labels == {"ants": 3, "bees": 3}


def test_the_litter_of_file_managers_is_left_out(profile):
    litter = {"__MACOSX/ants/._0.jpg": b"\0", "ants/.DS_Store": b"\0", "Thumbs.db": b"\0", "ants/._x.jpg": b"\0"}
    with_folders = {"ants/": b"", **folders(), **litter}
    assert profile(archive(with_folders)).rows == 6


def test_labels_in_other_scripts_whatever_the_writer_did_about_them(profile):
    members = {
        f"{label}/{number}.jpg": picture(seed=number + 10 * place)
        for place, label in enumerate(("Käfer", "ミツバチ"))
        for number in range(2)
    }
    content = archive(members)
    assert set(profile(content).labels) == {"Käfer", "ミツバチ"}
    # A writer that stores UTF-8 and forgets the flag that says so.
    unflagged = bytearray(content)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = unflagged.find(signature)
        while place >= 0:
            unflagged[place + flags + 1] &= 0xF7
            place = unflagged.find(signature, place + 1)
    assert set(profile(bytes(unflagged)).labels) == {"Käfer", "ミツバチ"}
    # macOS takes letters and their marks apart.
    decomposed = {name.replace("ä", "a\u0308"): content for name, content in members.items()}
    assert set(profile(archive(decomposed)).labels) == {"Käfer", "ミツバチ"}


def test_files_too_deep_or_in_no_folder_are_named(refusal):
    members = {**folders(), "stray.jpg": picture(seed=7), "ants/2020/deep.jpg": picture(seed=8)}
    error = refusal(archive(members))
    assert [detail["member"] for detail in error.details] == ["stray.jpg", "ants/2020/deep.jpg"]
    assert "no folder" in error.details[0]["reason"]
    assert "2 folders, 'ants/2020'" in error.details[1]["reason"]


def test_training_and_test_folders_in_one_archive_are_not_taken_for_labels(refusal):
    members = {f"{part}/{name}": content for part in ("train", "val") for name, content in folders().items()}
    error = refusal(archive(members))
    assert error.total == 12
    assert "train/ants" in error.details[0]["reason"]


def test_one_label_is_not_enough(refusal):
    members = {name: content for name, content in folders().items() if name.startswith("ants")}
    assert isinstance(refusal(archive(members)), OneClass)


def test_duplicates_are_a_warning_about_pictures(profile):
    found = profile(archive({**folders(), "bees/same.jpg": picture(seed=0), "bees/again.jpg": picture(seed=100)}))
    warnings = {warning["code"]: warning["message"] for warning in found.warnings}
    assert "picture occurs with different labels" in warnings["conflicting_labels"]
    assert "the picture and label of an earlier row" in warnings["near_duplicates"]


@pytest.mark.parametrize("column", ["file", "file_name", "filename", "path", "audio", "File "])
@pytest.mark.parametrize("base", ["", "set/"])
def test_a_table_names_the_files(examples, column, base):
    rows = [{column: f"clips/{n}.wav", "label": "ab"[n % 2], "speaker": "xy"[n // 4]} for n in range(8)]
    members = {f"{base}clips/{n}.wav": sound(seed=n) for n in range(8)}
    content = archive({f"{base}train.csv": table(*rows), **members, "unnamed.wav": sound(seed=99)})
    found = examples(content)
    assert [row.target for row in found] == list("abababab")
    assert found[3].input == Media(f"{base}clips/3.wav", sound(seed=3))
    assert [row.target for row in examples(content, columns={"label": "speaker"})] == list("xxxxyyyy")


@pytest.mark.parametrize(("extra", "told"), [(1, "1 file is"), (4, "4 files are"), (0, None)])
def test_what_the_table_does_not_name_is_told(profile, extra, told):
    names = [f"{place}.wav" for place in range(8)]
    members = {name: sound(seed=place) for place, name in enumerate(names)}
    rows = table(*({"file": name, "label": "ab"[place % 2]} for place, name in enumerate(names)))
    more = {f"extra{place}.wav": sound(seed=50 + place) for place in range(extra)}
    found = profile(archive({"t.csv": rows, "README.txt": b"What this is\n", **members, **more}))

    warnings = [each for each in found.warnings if each["code"] == "files_not_in_table"]
    assert [each["count"] for each in warnings] == ([extra] if extra else [])
    for each in warnings:
        assert each["message"].startswith(f"{told} not named by the table 't.csv', and not read: 'extra0.wav'")
        assert each["message"].count(".wav'") == min(extra, 3)


def test_a_table_of_json_lines(profile):
    lines = [json.dumps({"file_name": f"{n}.png", "label": "ab"[n % 2]}) for n in range(4)]
    members = {f"{n}.png": picture("PNG", seed=n) for n in range(4)}
    content = archive({"metadata.jsonl": "\n".join(lines).encode(), **members})
    assert profile(content).task == "image-classification"


def test_what_a_table_may_not_name(refusal):
    names = ["0.png", "1.png", "missing.png", "0.png", "../../etc/passwd", ""]
    rows = table(*({"file": name, "label": "ab"[place % 2]} for place, name in enumerate(names)))
    error = refusal(archive({"t.csv": rows, **{f"{n}.png": picture("PNG", seed=n) for n in range(2)}}))
    assert [detail["row"] for detail in error.details] == [3, 4, 5, 6]
    reasons = [detail["reason"] for detail in error.details]
    assert "not in the archive" in reasons[0]
    assert "again, as row 1" in reasons[1]
    assert "not in the archive" in reasons[2]
    assert "names no file" in reasons[3]


def test_columns_of_a_table_are_told(refusal):
    error = refusal(archive({"t.csv": table({"clip": "0.wav", "kind": "a"}), "0.wav": sound()}))
    assert isinstance(error, UnknownColumns)
    assert "'clip', 'kind'" in str(error)


def test_two_tables_are_one_too_many(refusal):
    content = archive({"train.csv": table({"file": "a", "label": "b"}), "test.csv": b"", **folders()})
    assert isinstance(refusal(content), SeveralTables)


def test_sounds_in_folders_and_a_stated_task(profile, refusal):
    members = {f"{'ab'[n % 2]}/{n}.wav": sound(seed=n) for n in range(6)}
    assert profile(archive(members)).task == "audio-classification"
    assert profile(archive(members), task="audio-classification").rows == 6
    error = refusal(archive(members), task="image-classification")
    assert "'audio', 'label'" in str(error)
    error = refusal(archive({**members, "a/photo.wav": picture()}))
    assert error.details[0]["reason"] == "is a JPEG picture where a sound is expected"


def test_an_archive_of_something_else(refusal):
    assert isinstance(refusal(archive({"tickets.csv": b"text,label\na,b\n"})), WrongFormat)
    assert isinstance(refusal(archive({"notes.txt": b"hello"})), WrongFormat)
    assert isinstance(refusal(archive({})), WrongFormat)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_packed_or_not(profile, method):
    assert profile(archive(folders(), method=method)).rows == 6


def test_real_photos_without_the_junk(shared_dir, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        for photo in sorted((shared_dir / "data/hymenoptera/val").rglob("*.jpg")):
            file.write(photo, photo.relative_to(shared_dir))
    found = inspect(path, filename=path.name, limits=Limits())
    assert found.labels == {"ants": 70, "bees": 83}
