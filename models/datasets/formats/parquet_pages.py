"""The sizes that Parquet's pages declare, read from their headers.

A column chunk is unpacked page by page into buffers of the size that each page's header states, whatever the footer
says. A file of a few kilobytes can state gigabytes, so the headers are judged before the reader sees the pages. They
are structs in Thrift's compact protocol; only whole numbers are taken from them, the rest is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAX_PAGES = 500_000
_WINDOW = 4 * 2**10
_WIDE_WINDOW = 2**20  # page statistics may hold long texts
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_MAX_DEPTH = 8
_DICTIONARY_PAGE = 2


@dataclass(frozen=True, slots=True)
class Page:
    """Sizes that one page's header declares: bytes when unpacked, bytes in the file, and values."""

    unpacked: int
    packed: int
    values: int


def walk(path: Path, metadata: Any) -> Iterator[Page]:
    """Yield every page of every column chunk, given the footer `metadata`. Raises ValueError for broken headers."""
    seen = 0
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for place in range(row_group.num_columns):
                for page in _chunk(file, row_group.column(place)):
                    seen += 1
                    if seen > MAX_PAGES:
                        raise ValueError(f"more than {MAX_PAGES} pages")
                    yield page


def _chunk(file: BinaryIO, column: Any) -> Iterator[Page]:
    offset = column.data_page_offset
    dictionary = column.dictionary_page_offset
    if dictionary is not None and 0 < dictionary < offset:
        offset = dictionary
    values = 0
    # The reader stops at the declared number of values too; what follows may be padding.
    while values < column.num_values:
        header, length = _header(file, offset)
        unpacked, packed = header.get(2), header.get(3)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or unpacked < 0 or packed < 0:
            raise ValueError("a page without a size")
        inner = header.get(5) or header.get(7) or header.get(8)
        count = inner.get(1, 0) if isinstance(inner, dict) else 0
        if count < 0:
            raise ValueError("a page with a negative number of values")
        yield Page(unpacked, packed, count)
        if header.get(1) != _DICTIONARY_PAGE:
            values += count
        offset += length + packed


def _header(file: BinaryIO, offset: int) -> tuple[dict[int, Any], int]:
    for window in (_WINDOW, _WIDE_WINDOW):
        file.seek(offset)
        reader = _Compact(file.read(window))
        try:
            return reader.struct(0), reader.place
        except IndexError:
            continue
    raise ValueError("a page header that is cut off")


class _Compact:
    """Reads Thrift's compact protocol; IndexError where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("a page header that is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != _STOP:
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind in (_LIST, _SET):
            return self._items(depth)
        if kind in (_BYTE, _DOUBLE):
            return self._skip(1 if kind == _BYTE else 8)
        if kind == _MAP or kind > _STRUCT:
            raise ValueError("a page header with a field of unknown type")
        return self._integer()

    def _items(self, depth: int) -> None:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(size):
            if head & 15 in (_TRUE, _FALSE):
                self._skip(1)
            else:
                self._value(head & 15, depth + 1)

    def _skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        self.place += 1
        return self._data[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a page header with a number that never ends")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
