"""A file → its profile, or an error that names every bad row."""

from __future__ import annotations

from pathlib import Path

from models.datasets.columns import arrange
from models.datasets.detection import detect
from models.datasets.errors import NoRows, OpenAnswers, TooManyRows, TooMuchMedia, bad_rows
from models.datasets.examples import DatasetProfile, Example, Media
from models.datasets.formats.format import Format, Row
from models.datasets.limits import Limits
from models.datasets.problems import Ledger, Problem
from models.datasets.repeats import Repeats
from models.datasets.tasks.task import Census, Task

__all__ = ["Limits", "inspect"]


def inspect(
    path: Path,
    *,
    filename: str,
    task: str | None = None,
    columns: dict[str, str] | None = None,
    limits: Limits,
) -> DatasetProfile:
    """Read a whole file, streaming, and say what it holds.

    `task` is inferred from the columns if it is None; `columns` maps canonical names to the file's own where they
    differ. Raises InvalidDataset (with up to a hundred bad rows in `details`) or one of its subclasses.
    """
    source = detect(path, filename)
    source.check(path, filename, limits)
    ledger = Ledger()
    found = source.columns(path)
    if not found:
        _refuse_rows(path, filename, source, ledger)
    chosen, mapping = arrange(found, task, columns)
    census, repeats = chosen.census(limits), Repeats(chosen.noun)
    rows = unpacked = 0
    for row in source.rows(path, mapping):
        rows += 1
        if rows > limits.max_rows:
            raise TooManyRows(filename=filename, limit=limits.max_rows)
        unpacked += _media_bytes(row)
        if unpacked > limits.max_unpacked_bytes:  # a column may repeat one sound a million times in a few kilobytes
            raise TooMuchMedia(rows=rows, unit="bytes", limit=limits.max_unpacked_bytes)
        outcome = _examine(row, chosen, limits)
        if isinstance(outcome, Example):
            census.add(outcome)
            repeats.add(outcome)
        else:
            ledger.add(outcome)
    if ledger.total:
        raise bad_rows(ledger, rows, filename=filename)
    if not rows:
        raise NoRows(filename=filename)
    if source.free_answers:
        _refuse_prose(census, rows)
    census.check()
    return DatasetProfile(
        format=source.name,
        task=chosen.name,
        rows=rows,
        columns=mapping,
        labels=dict(census.labels),
        warnings=[*census.warnings(), *repeats.warnings()],
    )


def _examine(row: Row | Problem, task: Task, limits: Limits) -> Example | list[Problem]:
    if isinstance(row, Problem):
        return [row]
    outcome = task.parse(row, limits)
    if task.verify is None or not isinstance(outcome, Example):
        return outcome
    verified = task.verify(outcome, limits)
    return [verified] if isinstance(verified, Problem) else verified


def _media_bytes(row: Row | Problem) -> int:
    """Encoded pictures and sounds in a row, in Parquet and in archives."""
    if isinstance(row, Problem):
        return 0
    cells = (value.get("bytes") if isinstance(value, dict) else value for value in row.values.values())
    return sum(
        len(cell.data) if isinstance(cell, Media) else len(cell) for cell in cells if isinstance(cell, (bytes, Media))
    )


def _refuse_rows(path: Path, filename: str, source: Format, ledger: Ledger) -> None:
    """A file in which no column could be found: say what is wrong with its rows, if it has any."""
    rows = 0
    for row in source.rows(path, {}):
        rows += 1
        if isinstance(row, Problem):
            ledger.add([row])
    if ledger.total:
        raise bad_rows(ledger, rows, filename=filename)
    if not rows:
        raise NoRows(filename=filename)


def _refuse_prose(census: Census, rows: int) -> None:
    """Answers that hardly recur are free text, not labels."""
    once = sum(count == 1 for count in census.labels.values())
    if len(census.labels) > 2 and once * 2 > len(census.labels):
        raise OpenAnswers(distinct=len(census.labels), rows=rows)
