from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.datasets.errors import (
    InvalidDataset,
    OversizedParquet,
    TooManyRows,
    TruncatedParquet,
    UnreadableParquet,
    WrongFormat,
)
from models.datasets.formats.parquet_pages import walk
from models.datasets.validation import Limits

TEXTS = [f"text {n}" for n in range(1_000)]
LABELS = ["ab"[n % 2] for n in range(1_000)]


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "columns",
    [
        {"text": TEXTS, "label": LABELS},
        {"text": pa.array(TEXTS, pa.large_string()), "label": LABELS},
        {"text": pa.array(TEXTS, pa.binary()), "label": pa.array(LABELS).dictionary_encode()},
        {"id": list(range(1_000)), "text": pa.array(TEXTS, pa.string_view()), "label": LABELS},
    ],
    ids=["string", "large string", "bytes and dictionary", "string view"],
)
@pytest.mark.parametrize("options", [{}, {"row_group_size": 33}, {"compression": "zstd", "use_dictionary": False}])
def test_types_and_layouts_that_writers_choose(examples, columns, options):
    rows = examples(parquet(columns, **options), filename="tickets.parquet")
    assert [(row.input, row.target) for row in rows] == list(zip(TEXTS, LABELS, strict=True))
    assert rows[-1].row == 1_000


@pytest.mark.parametrize(
    ("values", "labels"), [([1, 0], ["1", "0"]), ([True, False], ["true", "false"]), ([1.0, 2.0], ["1", "2"])]
)
def test_labels_that_are_numbers(profile, values, labels):
    assert list(profile(parquet({"text": TEXTS, "label": values * 500})).labels) == labels


def test_gaps_and_wrong_types_are_bad_rows(refusal):
    error = refusal(parquet({"text": ["a", None, "c", "  "], "label": [1.0, 2.0, float("nan"), None]}))
    assert [(detail["row"], detail["column"]) for detail in error.details] == [
        (2, "text"), (3, "label"), (4, "text"), (4, "label"),
    ]  # fmt: skip
    error = refusal(parquet({"text": list(range(250)), "label": LABELS[:250]}))
    assert error.total == 250
    assert error.details[0]["line"] is None


def test_bytes_that_are_not_utf8_are_bad_rows(refusal):
    error = refusal(parquet({"text": pa.array([b"a", b"\xff", b"c", b"d"]), "label": LABELS[:4]}))
    assert [(detail["row"], detail["column"]) for detail in error.details] == [(2, "text")]


def test_every_way_to_cut_a_file_is_truncation(refusal):
    whole = parquet({"text": TEXTS, "label": LABELS})
    for size in (4, 5, 11, 12, 100, len(whole) // 2, len(whole) - 1):
        assert isinstance(refusal(whole[:size]), TruncatedParquet), size


def test_a_damaged_footer(refusal):
    whole = bytearray(parquet({"text": TEXTS, "label": LABELS}))
    footer = int.from_bytes(whole[-8:-4], "little")
    whole[-8 - footer : -8] = bytes(255 - byte for byte in whole[-8 - footer : -8])
    assert isinstance(refusal(bytes(whole)), UnreadableParquet)
    assert isinstance(refusal(b"PAR1" + b"x" * 100 + (2**31).to_bytes(4, "little") + b"PAR1"), TruncatedParquet)


def test_damaged_pages_are_refused(refusal):
    whole = bytearray(parquet({"text": TEXTS, "label": LABELS}, use_dictionary=False))
    whole[40:4_000] = b"\xee" * 3_960
    assert isinstance(refusal(bytes(whole)), InvalidDataset)


def test_flipped_bytes_never_escape_as_another_error(write, profile):
    whole = parquet({"text": TEXTS[:50], "label": LABELS[:50]})
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            profile(bytes(damaged))
        except InvalidDataset as error:
            assert error.details[0]["mend"]  # noqa: PT017  (either outcome is right; only the kind of error matters)


def test_declared_rows_are_judged_before_reading(refusal):
    error = refusal(parquet({"text": TEXTS, "label": LABELS}), limits=Limits(max_rows=999))
    assert isinstance(error, TooManyRows)


def test_a_huge_row_group_is_refused_before_reading(refusal, monkeypatch):
    monkeypatch.setattr("models.datasets.formats.parquet._MAX_ROW_GROUP_BYTES", 1_000)
    assert isinstance(refusal(parquet({"text": TEXTS, "label": LABELS})), OversizedParquet)


def test_a_long_text_repeated_many_times_stays_small_in_memory(tmp_path, measured):
    path = tmp_path / "bomb"
    texts = pa.array(["x" * 10_000_000]).dictionary_encode().take(pa.array([0] * 1_000))
    pq.write_table(pa.table({"text": texts, "label": LABELS}), path)
    assert path.stat().st_size < 2_000_000
    code, memory = measured(path)
    assert code == "invalid_dataset"
    assert memory < 600_000_000


def test_a_long_label_repeated_in_one_list_stays_small_in_memory(tmp_path, measured):
    path = tmp_path / "bomb"
    labels = pa.array(["x" * 1_000_000]).dictionary_encode().take(pa.array([0] * 100_000))
    lists = pa.ListArray.from_arrays(pa.array([0, 100_000, 100_000]), labels)
    pq.write_table(pa.table({"text": ["a", "b"], "labels": lists}), path)
    assert path.stat().st_size < 2_000_000
    code, memory = measured(path)
    assert code == "invalid_dataset"
    assert memory < 300_000_000


def test_a_page_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path, measured):
    path = tmp_path / "bomb"
    texts = pa.array(["x" * 150_000_000, "b", "c", "d"], pa.large_string())
    table = pa.table({"text": texts, "label": LABELS[:4]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    assert path.stat().st_size < 100_000
    code, memory = measured(path)
    assert code == "oversized_parquet"
    assert memory < 100_000_000


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("options", [{"data_page_size": 64}, {"row_group_size": 7}, {"write_page_checksum": True}])
def test_page_headers_are_walked_whatever_the_writer_chose(tmp_path, version, options):
    long = ["y" * 5_000 + text for text in TEXTS]  # statistics longer than a header usually is
    path = tmp_path / "rows"
    columns = {"text": long, "label": LABELS, "labels": [[label] * 3 for label in LABELS], "n": list(range(1_000))}
    pq.write_table(pa.table(columns), path, data_page_version=version, **options)
    metadata = pq.read_metadata(path)
    pages = list(walk(path, metadata))
    chunks = [metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(4)]
    assert sum(page.unpacked for page in pages) < sum(chunk.total_uncompressed_size for chunk in chunks)
    assert sum(page.values for page in pages) >= sum(chunk.num_values for chunk in chunks)
    assert len(pages) >= len(chunks)


def test_other_columnar_files_are_named(refusal):
    error = refusal(b"ARROW1\x00\x00" + b"\x00" * 100)
    assert isinstance(error, WrongFormat)
    assert "Feather" in str(error)
