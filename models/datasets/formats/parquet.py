"""Parquet, by pyarrow: batch by batch, and nothing is unpacked before its declared size was judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.datasets.errors import OversizedParquet, TooManyColumns, TooManyRows, TruncatedParquet, UnreadableParquet
from models.datasets.formats import class_labels, parquet_pages
from models.datasets.formats.format import Format, Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem, excerpt

_MAGIC = b"PAR1"
_BATCH_ROWS = 512
_BATCH_BYTES = 2**27
_MAX_FOOTER_BYTES = 32 * 2**20
_MAX_ROW_GROUP_BYTES = 2**29
_MAX_PAGE_BYTES = 2**25  # writers make pages of about a mebibyte of text
# Pages of pictures and sounds are as large as a thousand of them; they do not shrink, so that what is declared arrived.
_MAX_MEDIA_PAGE_BYTES = 2**28
_MEDIA_RATIO = 4
_MAX_PAGE_VALUES = 2**24
_MAX_BATCH_BYTES = 2**28
_MAX_LEAVES = 10_000  # columns may be nested; how many there are at the top is judged with all formats
_DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
)  # what the reader raises on hostile bytes


def recognise(head: bytes) -> bool:
    """Return whether the head begins with Parquet's magic bytes."""
    return head.startswith(_MAGIC)


def check(path: Path, filename: str, limits: Limits) -> None:
    """Judge the footer: whole, readable, and declaring no more than the limits allow."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if size < 12 or tail[-4:] != _MAGIC:
        raise TruncatedParquet(filename=filename, size=size)
    footer = int.from_bytes(tail[:4], "little")
    if footer > size - 12:
        raise TruncatedParquet(filename=filename, size=size)
    if footer > _MAX_FOOTER_BYTES:
        raise OversizedParquet(filename=filename, declared=footer, what="its footer", limit=_MAX_FOOTER_BYTES)
    try:
        with _open(path) as parquet:
            metadata = parquet.metadata
            if metadata.num_columns > max(limits.max_columns, _MAX_LEAVES):
                raise TooManyColumns(filename=filename, count=metadata.num_columns, limit=limits.max_columns)
            _ = parquet.schema_arrow.names
            if metadata.num_rows > limits.max_rows:
                raise TooManyRows(filename=filename, limit=limits.max_rows)
            for group in range(metadata.num_row_groups):
                declared = metadata.row_group(group).total_byte_size
                if not 0 <= declared <= _MAX_ROW_GROUP_BYTES:
                    what = f"row group {group + 1}"
                    raise OversizedParquet(filename=filename, declared=declared, what=what, limit=_MAX_ROW_GROUP_BYTES)
            for page in parquet_pages.walk(path, metadata):
                arrived = min(page.packed, size)
                most = max(_MAX_PAGE_BYTES, min(_MAX_MEDIA_PAGE_BYTES, _MEDIA_RATIO * arrived))
                if page.unpacked > most or page.values > _MAX_PAGE_VALUES:
                    declared, limit = max((page.unpacked, most), (page.values * 8, _MAX_PAGE_VALUES * 8))
                    raise OversizedParquet(filename=filename, declared=declared, what="one page", limit=limit)
    except _DAMAGE as error:
        raise UnreadableParquet(filename=filename, error=excerpt(str(error), 120)) from None


def read_columns(path: Path) -> list[str]:
    """Return the names of the top-level columns."""
    with _open(path) as parquet:
        return list(parquet.schema_arrow.names)


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield rows in order; a page that cannot be decoded is a problem that ends the reading."""
    number = 0
    try:
        with _open(path, dictionaries=_nested_text(path, set(columns.values()))) as parquet:
            # A value is no longer than its page: so many rows at once that they stay in bounds even then.
            largest = max((page.unpacked for page in parquet_pages.walk(path, parquet.metadata)), default=1)
            names = class_labels.names_of(parquet.schema_arrow.metadata)
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))
            for batch in parquet.iter_batches(
                batch_size=size, columns=sorted(set(columns.values())), use_threads=False
            ):
                lists = {name: _values(batch.column(own)) for name, own in columns.items()}
                for name, own in columns.items():
                    if own in names:
                        lists[name] = [class_labels.named(value, names[own]) for value in lists[name]]
                for place in range(batch.num_rows):
                    number += 1
                    yield Row(number, None, {name: values[place] for name, values in lists.items()})
    except _DAMAGE as error:
        reason = f"The file is damaged from here on ({excerpt(str(error), 120)}); nothing after it was read"
        yield Problem(number + 1, None, None, reason, "Write the Parquet file again and upload it whole.")


def _open(path: Path, dictionaries: list[str] | None = None) -> Any:
    return pq.ParquetFile(
        path,
        memory_map=False,
        buffer_size=2**20,
        pre_buffer=False,
        read_dictionary=dictionaries,
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=1_000_000,
    )


def _nested_text(path: Path, wanted: set[str]) -> list[str]:
    # A row's list may repeat one long text a million times: kept as a dictionary it is held once, and can be measured
    # before it is unpacked. Plain columns need no such care (and are slower with it): see the batch's size.
    with _open(path) as parquet:
        leaves = [parquet.schema.column(place) for place in range(len(parquet.schema))]
    paths = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return [leaf for leaf in paths if "." in leaf and leaf.split(".")[0] in wanted]


def _values(column: Any) -> list[Any]:
    unpacked = _unpacked_bytes(column)
    if unpacked > _MAX_BATCH_BYTES:
        raise OSError(f"{len(column)} rows unpack to {unpacked} bytes, the limit is {_MAX_BATCH_BYTES}")
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        # Parquet does not promise that strings are UTF-8, and the row that has a bad one shall be named.
        values = [_value(cell) for cell in column]
    short = _short_float(column.type)
    return values if short is None else _shortest(values, short)


def _short_float(kind: Any) -> Any:
    """Return numpy's type of numbers of less than double precision, or of lists of such; None for anything else."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _short_float(kind.value_type)
    return np.float32 if pa.types.is_float32(kind) else np.float16 if pa.types.is_float16(kind) else None


def _shortest(value: Any, short: Any) -> Any:
    """Return numbers of single precision as a person writes them: 0.1, not 0.10000000149011612."""
    if isinstance(value, list):
        return [_shortest(each, short) for each in value]
    return float(str(short(value))) if isinstance(value, float | np.floating) else value


def _unpacked_bytes(column: Any) -> int:
    if isinstance(column, pa.DictionaryArray):
        words = column.dictionary
        widths = pc.binary_length(words) if _is_text(words.type) else pa.array([8] * len(words))
        return int(pc.sum(pc.take(widths, column.indices.drop_null())).as_py() or 0)
    if isinstance(column, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        return len(column) * 8 + _unpacked_bytes(column.flatten())
    if isinstance(column, pa.StructArray):
        return sum(_unpacked_bytes(part) for part in column.flatten())
    return int(column.nbytes)


def _is_text(kind: Any) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string))


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return b"\xff"  # no valid text either: the cell's parser says so


PARQUET = Format("parquet", recognise, check, read_columns, read_rows, binary=True)
