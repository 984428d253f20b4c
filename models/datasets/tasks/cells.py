"""Single cells: a text, a label, a number, a list in JSON. `BadValue` carries the reason and the mend."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Callable
from datetime import date, time
from typing import Any, TypeVar

import orjson

from models.datasets import numerals
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import OWN, BadValue, Problem, excerpt

_T = TypeVar("_T")

LARGEST_VALUE = 1e30  # sums of squares of more would not fit into a float64, nor values beyond 3e38 into a float32
# Advice that names the file's own column: the place is filled in by `problems.name_column`.
SPANS = f'These are spans: pass columns={{"spans": "{OWN}"}} to tag stretches of the text.'
LABELS = f'Several labels per row: pass columns={{"labels": "{OWN}"}}. One label: write one string.'
_FIRST_INEXACT = 2.0**53  # from here on neighbouring whole numbers are one in double precision
_PYTHON_CHARS = 100_000
_SPELLED_TIMES = 8  # a label may lose so much of its length when white space and invisible characters go
_INVISIBLE = dict.fromkeys((0x200B, 0x2060, 0xFEFF, 0x00AD))  # zero-width space, joiner, byte-order mark, soft hyphen
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")

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
        """Parse the column's value; for one that cannot be used note the problem and return `missing`."""
        try:
            return parse(self._row.values.get(column), self._limits)
        except BadValue as error:
            row = self._row
            self.problems.append(Problem(row.number, row.line, column, error.reason, error.mend, row.member))
            return missing


def text(value: Any, limits: Limits) -> str:
    """Return a text as it stands, with its white space. Raises BadValue if it is empty, too long or no text."""
    value = _decode(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadValue("is empty", "Write a text or remove the row.")
    if not isinstance(value, str):
        raise BadValue(f"is {kind(value)} where a text is expected: {excerpt(value)}", "Write it as a string.")
    if len(value) > limits.max_text_chars:
        reason = f"has {len(value)} characters; the limit is {limits.max_text_chars}"
        raise BadValue(reason, "Shorten the text or split it over several rows.")
    if "\0" in value:
        raise BadValue("contains a NUL character", "Remove it; text has none.")
    return str(value)


def label(value: Any, limits: Limits) -> str:
    """Return a label without surrounding white space, spelled alike whatever the file's format.

    Numbers and booleans are written as JSON has them, whole ones without a point: 1, 0.5, true; so are the texts `1.0`
    and `True`, which is what they become in CSV. Unicode is composed (NFC), invisible characters are left out. A list
    of one label, as annotation tools write it, is that label.
    """
    value = choices(_decode(value))
    if isinstance(value, (list, tuple)) and value and is_span(value[0]):
        raise BadValue(f"holds spans where one label is expected: {excerpt(value)}", SPANS)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = _decode(value[0])
    if isinstance(value, (list, tuple)) and value:
        raise BadValue(f"is a list where one label is expected: {excerpt(value)}", LABELS)
    value = "" if isinstance(value, (list, tuple)) else _spelled(value, limits)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadValue("has no label", "Write a label or remove the row.")
    if not isinstance(value, str):
        raise BadValue(f"is {kind(value)} where a label is expected: {excerpt(value)}", "Write it as a string.")
    name: str = value.strip()
    if len(name) > limits.max_label_chars:
        reason = f"has a label of {len(name)} characters ({excerpt(name, 40)}); the limit is {limits.max_label_chars}"
        raise BadValue(reason, "Write a short name. Is this the label's column, and are the quotes closed?")
    if "\0" in name:
        raise BadValue("has a label with a NUL character", "Remove it.")
    return name


def choices(value: Any) -> Any:
    """Return what Label Studio's `{"choices": …}` holds, as an object or as the JSON of one; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith('{"choices"'):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    if isinstance(value, dict) and set(value) == {"choices"}:
        return value["choices"]
    return value


def is_span(value: Any) -> bool:
    """Return whether this is a stretch of a text: [start, end, label], or an object with a start and an end."""
    if isinstance(value, dict):
        return ("start" in value and "end" in value) or "start_offset" in value
    whole = isinstance(value, (list, tuple)) and len(value) == 3
    return whole and all(isinstance(place, int) for place in value[:2]) and isinstance(value[2], str)


def _spelled(value: Any, limits: Limits) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) >= _FIRST_INEXACT:
            reason = f"is a whole number of which not all digits were kept ({excerpt(value)}): two labels may be one"
            raise BadValue(reason, 'Write it as a string, such as "12345678901234567890".')
        # A column of whole numbers with one gap comes out of data frames as 1.0, 2.0, NaN.
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    # What is too long in any spelling stays as it is: to compose a million accents takes hours.
    if not isinstance(value, str) or len(value) > _SPELLED_TIMES * limits.max_label_chars:
        return value
    name = unicodedata.normalize("NFC", value.translate(_INVISIBLE)).replace("\u00a0", " ").strip()
    if name.lower() in ("true", "false"):
        return name.lower()
    return _WHOLE.sub(r"\1", name)


def number(value: Any, limits: Limits) -> float:  # noqa: ARG001  (one signature for all cells)
    """Return a finite number; a string that writes one with a decimal point will do. Raises BadValue."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadValue("has no value", "Write a number or remove the row.")
    try:
        if isinstance(value, (bool, bytes, list, tuple, dict)):
            raise TypeError
        result = numerals.parse(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        mend = "Write a number with a decimal point, such as 3.5."
        raise BadValue(f"is no number: {excerpt(value)}", mend) from None
    if not math.isfinite(result):
        raise BadValue(f"is not a finite number: {excerpt(value)}", "Write a finite number or remove the row.")
    if abs(result) > LARGEST_VALUE:
        reason = f"is beyond {LARGEST_VALUE:g}, the largest value that can be learned: {excerpt(value)}"
        raise BadValue(reason, "Write the values in a larger unit, such as millions, or their logarithm.")
    return result


def json_list(value: Any) -> list[Any]:
    """Return a list, also from the JSON of one in a string. Raises BadValue."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            if (written := _python_list(value)) is not None:
                return written
            reason = f"is not a JSON list ({error.msg}): {excerpt(value)}"
            raise BadValue(reason, 'Write JSON with double quotes, such as ["a", "b"].') from None
    if not isinstance(value, (list, tuple)):
        raise BadValue(
            f"is {kind(value)} where a list is expected: {excerpt(value)}", 'Write a list, such as ["a", "b"].'
        )
    return list(value)


def _python_list(value: str) -> list[Any] | None:
    """Return the list that Python's `str` made of one: single quotes. It is parsed, nothing in it is run."""
    if not value.strip().startswith("[") or len(value) > _PYTHON_CHARS:
        return None
    try:
        written = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return written if isinstance(written, list) else None


def kind(value: Any) -> str:
    """Return what kind of value this is, in words."""
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
        raise BadValue("holds bytes that are not UTF-8", "Write the column as strings.") from None
