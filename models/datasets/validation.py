"""A file → its profile, or an error that names every bad row."""

from __future__ import annotations

from pathlib import Path

from models.datasets.columns import arrange
from models.datasets.detection import detect
from models.datasets.errors import NoRows, OpenAnswers, TooManyRows, bad_rows
from models.datasets.examples import DatasetProfile, Example
from models.datasets.formats.format import Format
from models.datasets.limits import Limits
from models.datasets.problems import Ledger, Problem
from models.datasets.repeats import Repeats
from models.datasets.tasks.task import Census

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
    ledger, repeats = Ledger(), Repeats()
    found = source.columns(path)
    if not found:
        _refuse_rows(path, filename, source, ledger)
    chosen, mapping = arrange(found, task, columns)
    census = chosen.census(limits)
    rows = 0
    for row in source.rows(path, mapping):
        rows += 1
        if rows > limits.max_rows:
            raise TooManyRows(filename=filename, limit=limits.max_rows)
        outcome = [row] if isinstance(row, Problem) else chosen.parse(row, limits)
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
