"""Validation of a file: its profile, or an error that names every bad row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from models.datasets import free_answers, late_keys
from models.datasets.columns import Arrangement, arrange, names_any
from models.datasets.detection import detect
from models.datasets.errors import (
    InvalidDataset,
    NoAnnotations,
    NoRows,
    OpenAnswers,
    OversizedRows,
    TooManyColumns,
    TooManyRows,
    TooMuchMedia,
    TooSmall,
    UnknownColumns,
    bad_rows,
)
from models.datasets.examples import DatasetProfile, Example
from models.datasets.formats.delimited import CSV
from models.datasets.formats.format import Format, Row, size_of
from models.datasets.limits import Limits
from models.datasets.mojibake import Mojibake
from models.datasets.one_hot import refuse_one_hot
from models.datasets.problems import OWN, Problem, ProblemCollector, name_column
from models.datasets.repeats import Repeats
from models.datasets.tasks import object_detection, text_generation, unlabeled
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.task import Statistics, Task
from models.datasets.unread import Unread
from models.datasets.word_counts import WordCounts
from models.datasets.written import refuse_written

__all__ = ["Limits", "Role", "inspect"]

Role = Literal["training", "validation", "unlabeled"]

MINIMUM_ROWS = 4  # to learn from and to hold out


def inspect(
    path: Path,
    *,
    filename: str,
    task: str | None = None,
    columns: dict[str, str] | None = None,
    role: Role = "training",
    limits: Limits,
) -> DatasetProfile:
    """Read a whole file, streaming, and say what it holds.

    `task` is inferred from the columns if it is None; `columns` maps canonical names to the file's own where they
    differ; what a set needs to be learned from is not asked of one whose `role` is validation, and of one without
    labels nothing but its inputs is read. Raises InvalidDataset (with up to a hundred bad rows in `details`) or one of
    its subclasses.
    """
    source = detect(path, filename)
    source.check(path, filename, limits)
    collected = ProblemCollector()
    found = _columns(path, filename, source, collected, limits)
    undecided = task is None and not columns and role != "unlabeled"
    taken = free_answers.decide(path, source, found, limits) if undecided else None
    asked, columns = (task, columns) if taken is None else (taken.task, taken.columns)
    chosen = (
        arrange(found, asked, columns, media=source.media, among=unlabeled.kinds(asked))
        if role == "unlabeled"
        else _arrange(path, filename, source, found, asked, columns)
    )
    statistics, repeats, unread = (
        chosen.task.statistics(limits),
        Repeats(chosen.task.noun, chosen.task.target),
        Unread(chosen),
    )
    words, mojibake = WordCounts(), Mojibake()
    rows, unpacked, most_unpacked = 0, 0, int(limits.unpacked_bytes(path.stat().st_size))
    remarks: list[dict[str, Any]] = []
    for row in source.read(path, chosen.columns, remarks):
        rows += 1
        if rows > limits.max_rows:
            raise TooManyRows(filename=filename, limit=limits.max_rows)
        unpacked += size_of(row)
        if unpacked > most_unpacked:  # a column may repeat one value a million times in a few kilobytes
            raise _oversized(chosen.task, collected, rows, filename, most_unpacked)
        outcome = late_keys.find(row, chosen.task) or _examine(row, chosen.task, limits)
        if isinstance(outcome, Example):
            statistics.add(outcome)
            repeats.add(outcome)
            words.add(outcome)
            mojibake.add(outcome)
            unread.add(row, outcome)
        else:
            collected.add(name_column(problem, chosen.columns) for problem in outcome)
    if collected.total:
        raise bad_rows(collected, rows, filename=filename)
    if not rows:
        raise NoRows(filename=filename)
    if source.free_answers and role == "training":
        _refuse_prose(statistics, rows)
    named: list[dict[str, object]] = []
    # Repeated rows without labels are left out, and told then.
    repeated = [] if role == "unlabeled" else repeats.warnings()
    beside = (
        unlabeled.warn_of_answers(chosen.columns, [] if source.media else found)
        if role == "unlabeled"
        else [*remarks, *unread.warnings()]
    )
    if role == "training":
        _check(statistics, chosen.columns, stated=task is not None)
        if rows < MINIMUM_ROWS:
            plural = "" if rows == 1 else "s"
            raise TooSmall(filename=filename, format=source.name, rows=rows, s=plural, minimum=MINIMUM_ROWS)
        named = _named(statistics, chosen.columns)
    return DatasetProfile(
        format=source.name,
        task=chosen.task.name,
        rows=rows,
        columns=chosen.columns,
        labels=dict(statistics.labels),
        warnings=[*beside, *mojibake.warnings(filename, source.name), *named, *repeated, *_note(taken)],
        words=words.above,
        long_rows=words.rows,
        role=role,
    )


def _note(taken: free_answers.Taken | None) -> list[dict[str, str]]:
    return [] if taken is None else [taken.warning()]


def _columns(path: Path, filename: str, source: Format, collected: ProblemCollector, limits: Limits) -> list[str]:
    found = source.columns(path)
    if len(found) > limits.max_columns:
        raise TooManyColumns(filename=filename, count=len(found), limit=limits.max_columns)
    if not found:
        _refuse_rows(path, filename, source, collected)
    return found


def _oversized(task: Task, collected: ProblemCollector, rows: int, filename: str, limit: int) -> InvalidDataset:
    if task.modality != "text":
        return TooMuchMedia(rows=rows, unit="bytes", limit=limit)
    if collected.total:  # what is wrong with the rows so far says more
        return bad_rows(collected, rows, filename=filename)
    return OversizedRows(filename=filename, rows=rows, limit=limit)


def _arrange(  # noqa: PLR0917
    path: Path, filename: str, source: Format, found: list[str], task: str | None, columns: dict[str, str] | None
) -> Arrangement:
    if source.free_answers and task == text_generation.NAME:
        found = list(text_generation.CHAT_COLUMNS)
    try:
        return arrange(found, task, columns, media=source.media)
    except UnknownColumns:
        if source.media and task == object_detection.NAME:
            raise NoAnnotations(filename=filename) from None
        if not source.media:
            refuse_one_hot(path, filename, source, found)
        if source.name == CSV.name and not columns and not names_any(found):
            refuse_written(path, filename, found)
        raise


def _check(statistics: Statistics, columns: dict[str, str], *, stated: bool) -> None:
    """Raise what makes the set unfit to learn from, with the file's own names of columns; `stated`: its task is."""
    try:
        statistics.check()
        if not stated and isinstance(statistics, ClassStatistics):
            statistics.check_joined()
    except InvalidDataset as error:
        raise _with_own_names(error, columns) from None


def _with_own_names(error: InvalidDataset, columns: dict[str, str]) -> InvalidDataset:
    if OWN not in str(error):
        return error
    column = str(error.data.get("column", ""))
    own = columns.get(column, column)
    error.args = (str(error).replace(OWN, own),)
    error.details = [
        {key: value.replace(OWN, own) if isinstance(value, str) else value for key, value in detail.items()}
        for detail in error.details
    ]
    return error


def _named(statistics: Statistics, columns: dict[str, str]) -> list[dict[str, object]]:
    return [
        {**warning, "message": str(warning["message"]).replace(OWN, columns.get(str(warning.get("column")), ""))}
        for warning in statistics.warnings()
    ]


def _examine(row: Row | Problem, task: Task, limits: Limits) -> Example | list[Problem]:
    if isinstance(row, Problem):
        return [row]
    outcome = task.parse(row, limits)
    if task.verify is None or not isinstance(outcome, Example):
        return outcome
    verified = task.verify(outcome, limits)
    return [verified] if isinstance(verified, Problem) else verified


def _refuse_rows(path: Path, filename: str, source: Format, collected: ProblemCollector) -> None:
    """Refuse a file in which no column could be found, with what is wrong with its rows, if anything is."""
    rows = 0
    for row in source.rows(path, {}):
        rows += 1
        if isinstance(row, Problem):
            collected.add([row])
    if collected.total:
        if source.name == CSV.name:
            refuse_written(path, filename, [])
        raise bad_rows(collected, rows, filename=filename)
    if not rows:
        raise NoRows(filename=filename)


def _refuse_prose(statistics: Statistics, rows: int) -> None:
    """Refuse answers that hardly recur: they are free text, not labels."""
    once = sum(count == 1 for count in statistics.labels.values())
    if len(statistics.labels) > 2 and once * 2 > len(statistics.labels):
        raise OpenAnswers(distinct=len(statistics.labels), rows=rows, advice="")
