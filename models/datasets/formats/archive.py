"""Zip archives of pictures or sounds: one folder per label, or with a table that names the files.

One folder per label: `ants/1.jpg`, `bees/2.jpg`; folders around all of them do not matter. With a table: exactly one
CSV or JSONL file in the archive, whose column `file` (or `file_name`, `filename`, `path`, `image`, `audio`) names a
member relative to the table or to the archive; what the table does not name is not read, and a warning says
so. Pictures with boxes in them are read by `boxes`.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.datasets.errors import InvalidDataset, SeveralTables, WrongFormat, bad_rows
from models.datasets.examples import Media
from models.datasets.formats.boxes import reading as boxes
from models.datasets.formats.delimited import CSV
from models.datasets.formats.format import Format, Row
from models.datasets.formats.json_lines import JSONL
from models.datasets.formats.zip_members import Archive, Member, danger, judge, open_archive
from models.datasets.limits import UNLIMITED, Limits
from models.datasets.media.encodings import HEAD_BYTES, Medium, medium_by_suffix, medium_of
from models.datasets.problems import BadValue, Problem, ProblemCollector, excerpt

_TABLES: dict[str, Format] = {".csv": CSV, ".tsv": CSV, ".jsonl": JSONL, ".ndjson": JSONL}
_FILE_COLUMNS = ("file", "file_name", "filename", "filepath", "file_path", "path")
_SAMPLED = 25
_SHOWN = 3
# What makes a zip an office file is that it holds these, whatever its folders are called.
_CONTENTS = "[Content_Types].xml"
_OFFICE = (
    ("xl/workbook.", "an Excel workbook"),
    ("word/document.", "a Word document"),
    ("ppt/presentation.", "a presentation"),
)
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
_SAVE_AS_CSV = "Save it as CSV (UTF-8) and upload that."
_UNZIP = "Unpack it (unzip) and upload the table inside, as CSV, JSONL or Parquet."
_FOLDERS = "Put every file directly into the folder that is named like its label, such as ants/1.jpg."


@dataclass(frozen=True, slots=True)
class _Table:
    """The one table of an archive, unpacked to a file."""

    member: Member
    format: Format
    path: Path

    def columns(self) -> list[str]:
        return self.format.columns(self.path)


def recognise(head: bytes) -> bool:
    """Return whether these are a zip's magic bytes; which kind of zip it is shows in its members."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def check(path: Path, filename: str, limits: Limits) -> None:
    """Judge the directory: how much it would unpack to, and every member that must not be unpacked, by name."""
    with open_archive(path, filename, max_entries=limits.max_entries) as archive:
        if (office := _office_file(archive)) is not None:
            raise WrongFormat(filename=filename, found=office, advice=_SAVE_AS_CSV)
        judge(archive, path, filename, limits)
        collected, seen = ProblemCollector(), set[str]()
        for member in archive.members:
            found = danger(member, limits)
            if found is None and member.name in seen:
                found = BadValue("is in the archive twice", "Keep one of them.")
            seen.add(member.name)
            if found is not None:
                collected.add([Problem(member.number, None, None, found.reason, found.mend, member.name)])
        if collected.total:
            raise bad_rows(collected, len(archive.members), filename=filename)
        if _medium(archive) is None:
            raise WrongFormat(filename=filename, found="a zip archive without pictures or sounds", advice=_UNZIP)
        if (source := boxes.find(archive)) is not None:
            source.check(limits)
            return
        tables = _tables(archive)
        if len(tables) > 1:
            names = " and ".join(f"'{excerpt(table.name)}'" for table in tables[:2])
            raise SeveralTables(filename=filename, count=len(tables), names=names)
        with _unpacked(archive) as table:
            if table is not None:
                table.format.check(table.path, table.member.name, limits)


def read_columns(path: Path) -> list[str]:
    """Return the table's columns, the file's called `image` or `audio`; or that one and `label`, or `boxes`."""
    with open_archive(path, path.name, max_entries=UNLIMITED.max_entries) as archive, _unpacked(archive) as table:
        if boxes.find(archive) is not None:
            return list(boxes.COLUMNS)
        medium = _medium(archive) or "image"
        if table is None:
            return [medium, "label"]
        found = table.columns()
        own = _file_column(found, medium)
        return [medium if name == own else name for name in found]


def read_rows(path: Path, columns: dict[str, str]) -> Iterator[Row | Problem]:
    """Yield rows in the order of the table, or of the members; a member that cannot be unpacked is a problem."""
    return read_with_remarks(path, columns, [])


def read_with_remarks(path: Path, columns: dict[str, str], remarks: list[dict[str, Any]]) -> Iterator[Row | Problem]:
    """Yield the rows; behind the last one, add warnings of what the archive holds and is not read."""
    with open_archive(path, path.name, max_entries=UNLIMITED.max_entries) as archive, _unpacked(archive) as table:
        medium = next((name for name in ("image", "audio") if name in columns), "image")
        if (source := boxes.find(archive)) is not None:
            named = yield from boxes.rows(archive, source, columns)
            remarks += boxes.remarks(archive, source, named)
        elif table is None:
            yield from _from_folders(archive, medium, columns)
        else:
            named = yield from _from_table(archive, table, medium, columns)
            remarks += _unnamed(archive, table, medium, named) if medium in columns else []


def _from_folders(archive: Archive, medium: str, columns: dict[str, str]) -> Iterator[Row | Problem]:
    outside, labelled = _outside([member.folders for member in archive.members]), "label" in columns
    for member in archive.members:
        inside = member.folders[outside:]
        if labelled and len(inside) != 1:
            reason = f"lies in {len(inside)} folders, '{'/'.join(inside)}'" if inside else "lies in no folder"
            yield Problem(member.number, None, "label", f"{reason}, where its label is expected", _FOLDERS, member.name)
            continue
        try:
            media = Media(member.name, archive.read(member))
        except BadValue as error:
            yield Problem(member.number, None, medium, error.reason, error.mend, member.name)
            continue
        values = {medium: media, **({"label": inside[0]} if labelled else {})}
        yield Row(member.number, None, {name: values.get(own) for name, own in columns.items()}, member.name)


def _from_table(
    archive: Archive, table: _Table, medium: str, columns: dict[str, str]
) -> Generator[Row | Problem, None, Collection[str]]:
    """Yield a row per row of the table; return the names of the members that it names."""
    own = dict(columns)
    if (renamed := _file_column(table.columns(), medium)) and own.get(medium) == medium:
        own[medium] = renamed
    members = {member.name: member for member in archive.members if member is not table.member}
    alike = _alike(members)
    base, seen = "/".join(table.member.folders), dict[str, int]()
    for row in table.format.rows(table.path, own):
        if isinstance(row, Problem) or medium not in own:
            yield row
            continue
        try:
            member = _named(row.values.get(medium), base, members, alike)
            if member.name in seen:
                raise BadValue(f"names '{excerpt(member.name)}' again, as row {seen[member.name]}", "Keep one of them.")
            seen[member.name] = row.number
            media = Media(member.name, archive.read(member))
        except BadValue as error:
            yield Problem(row.number, row.line, own[medium], error.reason, error.mend)
            continue
        yield replace(row, values={**row.values, medium: media}, member=member.name)
    return seen.keys()


def _unnamed(archive: Archive, table: _Table, medium: str, named: Collection[str]) -> list[dict[str, Any]]:
    """Return the warning of pictures or sounds that no row of the table names."""
    left = [
        member.name
        for member in archive.members
        if member.name not in named and medium_by_suffix(member.name) == medium
    ]
    if not left:
        return []
    names = ", ".join(f"'{excerpt(name)}'" for name in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    what = "1 file is" if len(left) == 1 else f"{len(left)} files are"
    message = (
        f"{what} not named by the table '{excerpt(table.member.name)}', and not read: {names}{more}. Write a row for "
        "each that is meant."
    )
    return [{"code": "files_not_in_table", "message": message, "count": len(left)}]


def _office_file(archive: Archive) -> str | None:
    """Return what kind of office file an archive is, by its members; None for any other."""
    members = {member.name: member for member in archive.members}
    if _CONTENTS in members:
        found = (what for part, what in _OFFICE if any(name.startswith(part) for name in members))
        return next(found, "an office file")
    kind = archive.head(members["mimetype"], HEAD_BYTES) if "mimetype" in members else b""
    return "an OpenDocument file" if kind.startswith(_OPEN_DOCUMENT.encode()) else None


def _alike(members: Iterable[str]) -> dict[str, str]:
    """Return members by the last part of their names, with and without its ending: where a wrong name may be meant.

    To look for the nearest spelling would compare every wrong name with every member.
    """
    found: dict[str, str] = {}
    for name in members:
        last = posixpath.basename(name).casefold()
        found.setdefault(last, name)
        found.setdefault(posixpath.splitext(last)[0], name)
    return found


def _named(value: object, base: str, members: dict[str, Member], alike: dict[str, str]) -> Member:
    """Return the member that a cell names."""
    if not isinstance(value, str) or not value.strip():
        raise BadValue("names no file", "Write the name that the file has in the archive.")
    name = posixpath.normpath(value.strip().replace("\\", "/"))
    for candidate in (posixpath.normpath(posixpath.join(base, name)), name):
        if candidate in members:
            return members[candidate]
    last = posixpath.basename(name).casefold()
    meant = alike.get(last) or alike.get(posixpath.splitext(last)[0])
    hint = f" Did you mean '{excerpt(meant)}'?" if meant else ""
    mend = f"Write the name as it is in the archive, or add the file.{hint}"
    raise BadValue(f"names '{excerpt(value)}', which is not in the archive", mend)


def _outside(folders: list[tuple[str, ...]]) -> int:
    """Return how many folders lie around all label folders."""
    around = [path[:-1] for path in folders if path]
    depth = 0
    while around and all(len(path) > depth and path[depth] == around[0][depth] for path in around):
        depth += 1
    return depth


def _medium(archive: Archive) -> Medium | None:
    """Return the kind of medium that most of a sample of the members are."""
    candidates = [member for member in archive.members if member.suffix not in _TABLES]
    sample = candidates[:: max(1, len(candidates) // _SAMPLED)][: 2 * _SAMPLED]
    found = [medium_of(member.name, archive.head(member, HEAD_BYTES)) for member in sample]
    counts = Counter(medium for medium in found if medium is not None)
    return counts.most_common(1)[0][0] if counts else None


def _file_column(found: list[str], medium: str) -> str | None:
    """Return the table's own name for the column of the files."""
    plain = {name.strip().casefold(): name for name in reversed(found)}
    return next((plain[name] for name in (medium, *_FILE_COLUMNS) if name in plain), None)


def _tables(archive: Archive) -> list[Member]:
    return [member for member in archive.members if member.suffix in _TABLES]


@contextmanager
def _unpacked(archive: Archive) -> Iterator[_Table | None]:
    """Unpack the archive's table into a file of its own, which exists as long as it is read."""
    member = next(iter(_tables(archive)), None)
    if member is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="graft-table-") as folder:
        path = Path(folder) / "table"
        with path.open("wb") as file:
            try:
                for chunk in archive.chunks(member):
                    file.write(chunk)
            except BadValue as error:
                problem = Problem(None, None, None, error.reason, error.mend, member.name)
                summary = f"'{excerpt(member.name)}' {error.reason}."
                raise InvalidDataset(problems=[problem], summary=summary, advice=error.mend) from None
        yield _Table(member, _TABLES[member.suffix], path)


ZIP = Format(
    "zip", recognise, check, read_columns, read_rows, binary=True, media=True, rows_with_remarks=read_with_remarks
)
