from __future__ import annotations

import io
import subprocess
import sys
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


def test_a_long_text_repeated_many_times_stays_small_in_memory(tmp_path):
    text = "x" * 10_000_000
    table = pa.table({"text": pa.array([text]).dictionary_encode().take(pa.array([0] * 1_000)), "label": LABELS})
    path = tmp_path / "bomb"
    pq.write_table(table, path)
    assert path.stat().st_size < 20_000_000
    script = (
        "import sys, resource; from pathlib import Path; from models.datasets.validation import Limits, inspect\n"
        "from models.datasets.errors import InvalidDataset\n"
        "try: inspect(Path(sys.argv[1]), filename='bomb', limits=Limits())\n"
        "except InvalidDataset as error: print(error.total)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    total, peak = answer.stdout.split()
    assert total == "1000"
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(peak) * unit < 600_000_000


def test_other_columnar_files_are_named(refusal):
    error = refusal(b"ARROW1\x00\x00" + b"\x00" * 100)
    assert isinstance(error, WrongFormat)
    assert "Feather" in str(error)
