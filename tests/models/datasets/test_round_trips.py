from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.datasets.reading import read
from models.datasets.tasks import cells
from models.datasets.validation import Limits, inspect

# Any character that a file can hold; NUL is refused, and lone surrogates are not text.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.text(characters, min_size=1, max_size=60).filter(lambda text: text.strip() != "")
# As they are spelled in every format: composed, without invisible characters, 1 for 1.0.
labels = (
    texts.filter(lambda text: text.strip(" \u00a0\u00ad\u200b\u2060\ufeff\n\r\t") != "")
    .map(lambda text: cells._spelled(text, Limits()).strip())
    .filter(lambda label: label != "")
)
tables = st.lists(st.tuples(texts, labels), min_size=1, max_size=12)
lists = st.lists(st.tuples(texts, st.lists(labels, max_size=4, unique=True)), min_size=1, max_size=12)

patiently = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def accepted(rows: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """The rows twice and a contrast, so that no label is rare and there is more than one."""
    return [*rows, *rows, ("one", rows[0][1]), ("contrast", "contrast"), ("contrast", "contrast")]


def written_csv(rows, delimiter: str, terminator: str, quoting: int) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=terminator, quoting=quoting)
    writer.writerow(("text", "label"))
    writer.writerows(rows)
    return buffer.getvalue().encode()


def come_back(path, content: bytes, task: str = "text-classification"):
    path.write_bytes(content)
    found = inspect(path, filename="rows", limits=Limits())
    assert found.task == task
    return [(row.input, row.target) for row in read(path, format=found.format, task=found.task, columns=found.columns)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
# With a bare LF the standard writer leaves a CR unquoted, where no reader can tell it from a line end.
@given(rows=tables, ends=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL)]))
@patiently
def test_csv(tmp_path, delimiter, rows, ends):
    expected = accepted(rows)
    assert come_back(tmp_path / "rows", written_csv(expected, delimiter, *ends)) == expected


def test_a_cell_whose_lines_look_like_rows(tmp_path):
    expected = accepted([("0", "0\n0\t0")])
    assert come_back(tmp_path / "rows", written_csv(expected, "\t", "\n", csv.QUOTE_ALL)) == expected


@given(rows=tables, ascii_only=st.booleans())
@patiently
def test_jsonl(tmp_path, rows, ascii_only):
    expected = accepted(rows)
    content = "".join(json.dumps({"text": t, "label": l}, ensure_ascii=ascii_only) + "\n" for t, l in expected)  # noqa: E741
    assert come_back(tmp_path / "rows", content.encode()) == expected


@given(rows=tables, group=st.integers(1, 10), dictionary=st.booleans())
@patiently
def test_parquet(tmp_path, rows, group, dictionary):
    expected = accepted(rows)
    buffer = io.BytesIO()
    columns = {"text": [text for text, _ in expected], "label": [label for _, label in expected]}
    pq.write_table(pa.table(columns), buffer, row_group_size=group, use_dictionary=dictionary)
    assert come_back(tmp_path / "rows", buffer.getvalue()) == expected


@given(rows=lists, form=st.sampled_from(["jsonl", "csv", "parquet"]))
@patiently
def test_lists_of_labels(tmp_path, rows, form):
    expected = [*rows, *rows, ("contrast", ["contrast"]), ("contrast", ["contrast"])]
    if form == "jsonl":
        content = "".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in expected).encode()
    elif form == "csv":
        content = written_csv([(text, json.dumps(labels)) for text, labels in expected], ",", "\n", csv.QUOTE_ALL)
        content = content.replace(b'"label"', b'"labels"', 1)
    else:
        buffer = io.BytesIO()
        columns = {"text": [text for text, _ in expected], "labels": [labels for _, labels in expected]}
        pq.write_table(pa.table(columns), buffer)
        content = buffer.getvalue()
    back = come_back(tmp_path / "rows", content, "multi-label-classification")
    assert back == [(text, tuple(labels)) for text, labels in expected]


@given(content=st.binary(max_size=400))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_accepted_or_refused_with_a_mend(tmp_path, content):
    from models.datasets.errors import InvalidDataset

    path = tmp_path / "rows"
    for prefix in (b"", b"text,label\n", b'{"text": "a", "label": "b"}\n', b"PAR1", b'{"messages": []}\n'):
        path.write_bytes(prefix + content)
        try:
            inspect(path, filename="rows", limits=Limits())
        except InvalidDataset as error:
            assert all(detail["mend"] for detail in error.details)  # noqa: PT017  (both outcomes are right)
