"""Errors of data sets. Each says what is wrong and how to mend it, in the message and in `details`."""

from __future__ import annotations

from typing import Any, ClassVar

from models.datasets.problems import OWN, SHOWN, Problem, ProblemCollector
from models.errors import InvalidRequest


class InvalidDataset(InvalidRequest):
    """A file that cannot be used. Raised itself for bad rows; subclasses name what is wrong with the file as a whole.

    `details` holds up to a hundred entries {row, line, column, reason, mend}; `total` counts all of them.
    """

    param = "file"
    reason: ClassVar[str] = "{summary}"
    mend: ClassVar[str] = "{advice}"
    message = "{summary} {advice}"

    def __init_subclass__(cls) -> None:
        cls.message = f"{cls.reason} {cls.mend}"

    def __init__(self, *, problems: list[Problem] | None = None, total: int | None = None, **data: Any) -> None:
        if not problems:
            column = data.get("column")
            problems = [Problem(None, None, column, self.reason.format(**data), self.mend.format(**data))]
        self.total = len(problems) if total is None else total
        super().__init__(details=[problem.as_dict() for problem in problems[:SHOWN]], **data)


def bad_rows(collected: ProblemCollector, rows: int, *, filename: str) -> InvalidDataset:
    """Return the error for a file whose bad rows were `collected`."""
    first = collected.shown[0]
    several = "row" if collected.bad_rows == 1 else "rows"
    alike = f" (and {collected.like_first} more alike)" if collected.like_first else ""
    summary = f"{collected.bad_rows} bad {several} of {rows} in '{filename}'. First: {first}{alike}."
    shown = f" `details` holds the first {SHOWN} of {collected.total} problems." if collected.total > SHOWN else ""
    return InvalidDataset(problems=collected.shown, total=collected.total, summary=summary, advice=first.mend + shown)


class NoRows(InvalidDataset):
    """A file without rows."""

    reason = "'{filename}' has no rows."
    mend = "Upload a file with at least two rows of each of at least two labels."


class TooManyRows(InvalidDataset):
    """A file with more rows than the limit."""

    reason = "'{filename}' has more than {limit} rows."
    mend = "Upload at most {limit} rows, for example a random sample of them."


class TooManyColumns(InvalidDataset):
    """A table that is wider than the limit."""

    reason = "'{filename}' has {count} columns; the limit is {limit}."
    mend = "Keep the columns that are needed: a text (or a picture, a sound) and its label."


class OverlongHeader(InvalidDataset):
    """A table whose first line does not end within the limit."""

    reason = "The header of '{filename}' is longer than {limit} characters."
    mend = "Write the columns' names into the first line and a line break behind them; check the quotes in it."


class OversizedRows(InvalidDataset):
    """Rows that together unpack to more than the service is willing to read."""

    reason = "The first {rows} rows of '{filename}' unpack to more than {limit} bytes."
    mend = "Upload fewer rows, or shorter texts."


class OneClass(InvalidDataset):
    """A file in which every row carries the same label: there is nothing to tell apart."""

    reason = "All {rows} rows carry the same label, '{label}'."
    mend = "Add rows of at least one other label."


class NoLabels(InvalidDataset):
    """A file in which no row has a label."""

    reason = "Column '{column}' is an empty list in all {rows} rows."
    mend = "Write labels where they apply."


class NoBoxes(InvalidDataset):
    """Pictures of which none has a box."""

    reason = "None of the {rows} pictures has a box."
    mend = "Draw boxes around what is to be found, and add pictures that have some."


class TooFewRows(InvalidDataset):
    """A class with too few rows to train on some and to score on others."""

    reason = "Label '{label}' has {got} row{others}; every label needs at least {minimum}."
    mend = (
        "Add rows with that label, remove the label, or join it with a similar one. (A file to score on may have such "
        "labels: upload it with purpose 'validation'.)"
    )


class TooManyClasses(InvalidDataset):
    """A file with more different labels than the limit."""

    reason = "Column '{column}' holds more than {limit} different labels."
    mend = (
        'Check that it is the label\'s column (columns={{"label": ...}} names another), or join rare labels. '
        'Numbers to be predicted as numbers are columns={{"value": ...}}.'
    )


class OpenAnswers(InvalidDataset):
    """Answers that are free text, where a classifier needs a closed set."""

    reason = "The assistants' answers are not a small closed set: {distinct} different answers in {rows} rows."
    mend = (
        "A classifier's answers are labels that recur, such as 'refund': replace free text by labels. Or have a model "
        "write such answers: task='text-generation'. {advice}"
    )


class NothingToWrite(InvalidDataset):
    """Rows that all have the same answer."""

    reason = "All {rows} rows have the same answer."
    mend = "Add rows with other answers."


class OneValue(InvalidDataset):
    """A regression target without spread."""

    reason = "All {rows} rows have the same value, {value}."
    mend = "Add rows with other values."


class NothingToPrefer(InvalidDataset):
    """Pairs of answers that are the same twice, all of them."""

    reason = "In all {rows} rows the preferred and the rejected answer are the same."
    mend = "Write a worse answer as the rejected one."


class UnknownColumns(InvalidDataset):
    """The columns that the task needs are not in the file."""

    reason = "{problem} The file's columns are {found}."
    mend = "{advice}"


class TwoReadings(InvalidDataset):
    """Columns that fit several tasks."""

    reason = "The file can be read as {readings}. Its columns are {found}."
    mend = "{advice}"


class LabelsAsVectors(InvalidDataset):
    """Rows whose labels are written as 0 and 1 by position."""

    reason = "Column '{column}' holds 0/1 vectors where the names of labels are expected."
    mend = 'Write the names of the labels that apply, such as ["toxic", "insult"], or [] if none does.'


class NumbersAsLabels(InvalidDataset):
    """Labels that are numbers, so many different ones that hardly any recurs."""

    reason = "Column '{column}' holds {distinct} different numbers in {rows} rows, too few rows of each to be labels."
    mend = 'To predict numbers, pass columns={{"value": "' + OWN + '"}}; to predict labels, write names that recur.'


class JoinedLabels(InvalidDataset):
    """Labels that are several others written as one, in a file that says nothing of how it is meant."""

    reason = "{count} label{s} of column '{column}' {look} like several written as one, such as '{label}'."
    mend = (
        'To learn several labels per row, pass columns={{"labels": "'
        + OWN
        + '"}}; to learn each of them as a label of '
        'its own, pass task="text-classification".'
    )


class TooSmall(InvalidDataset):
    """A file with so few rows that none can be held out."""

    reason = (
        "'{filename}', read as {format}, has {rows} row{s}; at least {minimum} are needed to learn from and to check "
        "with."
    )
    mend = "Add rows. (A file to score on may be smaller: upload it with purpose 'validation'.)"


class ColumnTwice(InvalidDataset):
    """Two columns of one name, of which one is needed."""

    reason = "The header names column '{column}' twice."
    mend = "Rename or remove one of them."


class UnknownTask(InvalidDataset):
    """A task that does not exist."""

    param = "task"
    reason = "There is no task '{task}'."
    mend = "Use {nearest}one of {known}; or leave it out and it is inferred from the columns."


class TooMuchMedia(InvalidDataset):
    """Pictures or sounds that together would take too long to decode."""

    reason = "The first {rows} pictures or sounds have more than {limit} {unit} together."
    mend = "Upload smaller pictures or shorter sounds, or fewer of them."


class WrongFormat(InvalidDataset):
    """A file whose content is something else than a table."""

    reason = "'{filename}' is {found}, where a table is expected (CSV, JSONL or Parquet)."
    mend = "{advice}"


class NotUtf8(InvalidDataset):
    """A text file in another encoding than UTF-8."""

    reason = "'{filename}' is not UTF-8: byte {byte} at offset {offset} (line {line})."
    mend = "{advice}"


class TruncatedParquet(InvalidDataset):
    """A Parquet file whose end is missing."""

    reason = "'{filename}' starts as Parquet but does not end as one: it is cut off or still being written."
    mend = "Close the writer, then upload the whole file again ({size} bytes arrived)."


class UnreadableParquet(InvalidDataset):
    """A Parquet file that the reader refuses."""

    reason = "'{filename}' cannot be read as Parquet: {error}."
    mend = "Write it again (for example with pandas' or pyarrow's to_parquet / write_table) and upload that."


class OversizedParquet(InvalidDataset):
    """A Parquet file that would unpack to more than the service is willing to hold."""

    reason = "'{filename}' declares {declared} bytes for {what}; the limit is {limit}."
    mend = "Write smaller row groups (row_group_size=10000) and only the columns that are needed."


class UnreadableArchive(InvalidDataset):
    """A zip that cannot be opened."""

    reason = "'{filename}' cannot be read as a zip archive: {error}."
    mend = "Make the archive again and upload it whole."


class TooManyMembers(InvalidDataset):
    """A zip with more files than the limit."""

    reason = "'{filename}' has more than {limit} entries."
    mend = "Upload fewer files, for example a random sample of them, or their bytes as Parquet."


class OversizedArchive(InvalidDataset):
    """A zip that would unpack to more than the service is willing to read."""

    reason = "'{filename}' would unpack to {what}; the limit is {limit}."
    mend = "Upload smaller pictures or sounds, or fewer of them."


class OverlongName(InvalidDataset):
    """A zip with a file name that is too long to be one."""

    reason = "'{filename}' holds an entry whose name has {length} characters ('{start}'); the limit is {limit}."
    mend = "Give the files short names, and put each into the folder that is named like its label."


class OverlongNames(InvalidDataset):
    """A zip whose file names are too long together."""

    reason = "The names of the entries of '{filename}' have more than {limit} characters together."
    mend = "Give the files shorter names, or upload their bytes as Parquet."


class SeveralTables(InvalidDataset):
    """A zip in which more than one table could be the one that names the files."""

    reason = "'{filename}' holds {count} tables, among them {names}."
    mend = "Keep the one that names the files of this data set; upload test data as a file of its own."


class SeveralAnnotations(InvalidDataset):
    """A zip whose pictures have boxes in files of more than one kind."""

    reason = "The archive holds boxes more than once: {kinds}."
    mend = "Keep the files of one kind."


class SeveralClassLists(InvalidDataset):
    """A zip with lists of class names that disagree."""

    reason = "'{first}' and '{second}' name different classes."
    mend = "Keep one list of names, which counts for all pictures of the archive."


class TooManyBoxes(InvalidDataset):
    """Annotations with more boxes than the service is willing to hold."""

    reason = "The annotations hold more than {limit} boxes."
    mend = "Upload fewer pictures, for example a random sample of them."


class TooManyPictures(InvalidDataset):
    """An annotation file that lists more pictures than an archive may hold."""

    reason = "An annotation file names more than {limit} pictures."
    mend = "Upload fewer pictures, for example a random sample of them, and list no others."


class NoAnnotations(InvalidDataset):
    """An archive of pictures for a task that needs boxes, without files that say where they are."""

    reason = "'{filename}' holds no boxes that can be read."
    mend = (
        "Add them as COCO JSON, Pascal VOC XML, YOLO text files, or a CSV with the columns filename, class, xmin, "
        "ymin, xmax, ymax."
    )


class InvalidMedia(InvalidRequest):
    """A picture or a sound in a request that cannot be used; `param` names it."""

    param = "inputs"
    message = "{place} {reason}. {mend}"

    def at(self, param: str) -> InvalidMedia:
        """Return the same error for a request that names its inputs otherwise."""
        return InvalidMedia(place=param, reason=self.data["reason"], mend=self.data["mend"], param=param)
