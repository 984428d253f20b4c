"""Single cells: a text, a label, a number, a list in JSON. `Unfit` carries the reason and the mend."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, time
from typing import Any, TypeVar

import orjson

from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem, Unfit, excerpt

_T = TypeVar("_T")

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (dict, "an object"),
    (bytes, "bytes"),
    ((date, time), "a date"),
)


class Cells:
    """The cells of one row: hands out parsed values and collects what is wrong with the others."""

    def __init__(self, row: Row, limits: Limits) -> None:
        self._row = row
        self._limits = limits
        self.problems: list[Problem] = []

    def take(self, column: str, parse: Callable[[Any, Limits], _T], missing: _T) -> _T:
        """`parse` on the column's value; a problem is noted and `missing` returned if it is Unfit."""
        try:
            return parse(self._row.values.get(column), self._limits)
        except Unfit as error:
            row = self._row
            self.problems.append(Problem(row.number, row.line, column, error.reason, error.mend, row.member))
            return missing


def text(value: Any, limits: Limits) -> str:
    """A text as it stands, with its white space; raises Unfit if it is empty, too long or no text."""
    value = _decode(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unfit("is empty", "Write a text or remove the row.")
    if not isinstance(value, str):
        raise Unfit(f"is {kind(value)} where a text is expected: {excerpt(value)}", "Write it as a string.")
    if len(value) > limits.max_text_chars:
        reason = f"has {len(value)} characters; the limit is {limits.max_text_chars}"
        raise Unfit(reason, "Shorten the text or split it over several rows.")
    if "\0" in value:
        raise Unfit("contains a NUL character", "Remove it; text has none.")
    return str(value)


def label(value: Any, limits: Limits) -> str:
    """A label without surrounding white space. Numbers and booleans are taken as JSON writes them: 1, 0.5, true."""
    value = _decode(value)
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    elif isinstance(value, float):
        # A column of whole numbers with one gap comes out of data frames as 1.0, 2.0, NaN.
        value = None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unfit("has no label", "Write a label or remove the row.")
    if isinstance(value, (list, tuple)):
        mend = (
            "Write one string; for several labels per row use the column `labels` and task multi-label-classification."
        )
        raise Unfit(f"is a list where one label is expected: {excerpt(value)}", mend)
    if not isinstance(value, str):
        raise Unfit(f"is {kind(value)} where a label is expected: {excerpt(value)}", "Write it as a string.")
    name: str = value.strip()
    if len(name) > limits.max_label_chars:
        reason = f"has a label of {len(name)} characters ({excerpt(name, 40)}); the limit is {limits.max_label_chars}"
        raise Unfit(reason, "Write a short name. Is this the label's column, and are the quotes closed?")
    if "\0" in name:
        raise Unfit("has a label with a NUL character", "Remove it.")
    return name


def number(value: Any, limits: Limits) -> float:  # noqa: ARG001  (one signature for all cells)
    """A finite number; a string that writes one with a decimal point will do."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unfit("has no value", "Write a number or remove the row.")
    try:
        if isinstance(value, (bool, bytes, list, tuple, dict)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        mend = "Write a number with a decimal point, such as 3.5."
        raise Unfit(f"is no number: {excerpt(value)}", mend) from None
    if not math.isfinite(result):
        raise Unfit(f"is not a finite number: {excerpt(value)}", "Write a finite number or remove the row.")
    return result


def json_list(value: Any) -> list[Any]:
    """A list, or the JSON of one in a string."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            reason = f"is not a JSON list ({error.msg}): {excerpt(value)}"
            raise Unfit(reason, 'Write JSON with double quotes, such as ["a", "b"].') from None
    if not isinstance(value, (list, tuple)):
        raise Unfit(f"is {kind(value)} where a list is expected: {excerpt(value)}", 'Write a list, such as ["a", "b"].')
    return list(value)


def kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "null"
    return next((words for types, words in _KINDS if isinstance(value, types)), f"a {type(value).__name__}")


def _decode(value: Any) -> Any:
    # Some writers leave out that a Parquet column of bytes is text.
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unfit("holds bytes that are not UTF-8", "Write the column as strings.") from None
