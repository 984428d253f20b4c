"""Which of a file's columns are the task's: inferred from names, or told by `columns={"label": "category"}`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from models.datasets.errors import ColumnTwice, UnknownColumns
from models.datasets.problems import excerpt
from models.datasets.tasks import TASKS, find
from models.datasets.tasks.task import Task

# What people call these columns, for the nearest name when nothing is spelt alike.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "text": ("sentence", "message", "utterance", "review", "comment", "body", "content", "query", "question", "prompt",
             "description", "input", "document", "title", "tweet", "sms", "email", "sentence1", "tokens"),
    "label": ("category", "class", "intent", "target", "sentiment", "topic", "tag", "type", "completion", "output",
              "answer", "y", "labels", "rating"),
    "labels": ("tags", "categories", "classes", "intents", "topics", "targets", "genres", "label"),
    "value": ("score", "rating", "target", "y", "label", "similarity", "number", "grade"),
    "text_pair": ("sentence2", "text2", "second", "hypothesis"),
    "spans": ("entities", "labels", "annotations"),
    "tokens": ("words",),
    "tags": ("ner_tags", "iob", "labels", "bio"),
}  # fmt: skip


def arrange(found: list[str], task: str | None, columns: dict[str, str] | None) -> tuple[Task, dict[str, str]]:
    """The task and its columns (canonical name → the file's own) for a file with the columns `found`.

    Names match without regard to case and surrounding space. Raises UnknownTask, UnknownColumns, ColumnTwice.
    """
    wanted = _stated(task)
    given = _given(found, columns or {}, wanted)
    known = _by_plain_name(found)
    for candidate in wanted:
        for layout in candidate.layouts:
            mapping = {name: given.get(name) or known.get(name, "") for name in (*layout, *candidate.optional)}
            if all(mapping[name] for name in layout) and all(name in mapping for name in given):
                used = {name: own for name, own in mapping.items() if own}
                for own in used.values():
                    if found.count(own) > 1:
                        raise ColumnTwice(column=excerpt(own))
                return candidate, used
    raise _missing(found, wanted, given, known)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is spelt or meant most like `name`."""
    plain = {_plain(candidate): candidate for candidate in candidates if candidate}
    alike = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.7)
    if alike:
        return plain[alike[0]]
    for synonym in _SYNONYMS.get(name, ()):
        if synonym in plain:
            return plain[synonym]
    looser = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)
    return plain[looser[0]] if looser else None


def _stated(task: str | None) -> list[Task]:
    return list(TASKS.values()) if task is None else [find(task)]


def _given(found: list[str], columns: dict[str, str], wanted: list[Task]) -> dict[str, str]:
    canonical = {name for task in wanted for layout in task.layouts for name in (*layout, *task.optional)}
    for name, own in columns.items():
        if name not in canonical:
            alike = nearest(name, canonical)
            hint = f"Did you mean '{alike}'? " if alike else ""
            advice = f"{hint}The names to the left are: {', '.join(sorted(canonical))}."
            problem = f"columns names '{excerpt(name)}', which the task does not have."
            raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=excerpt(name))
        if own not in found:
            alike = nearest(own, found)
            advice = f'Did you mean columns={{"{name}": "{excerpt(alike)}"}}?' if alike else "Name one of them."
            problem = f"The file has no column '{excerpt(own)}', which columns names for '{name}'."
            raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=excerpt(own))
    return columns


def _missing(found: list[str], wanted: list[Task], given: dict[str, str], known: dict[str, str]) -> UnknownColumns:
    # The layout of which most is there is what the file was meant to be.
    layouts = [layout for task in wanted for layout in task.layouts]
    guesses = [_renames(found, layout, given, known) for layout in layouts]
    fits = [
        (sum(name in given or name in known for name in layout), len(guess))
        for layout, guess in zip(layouts, guesses, strict=True)
    ]
    best = max(range(len(layouts)), key=lambda place: fits[place])
    layout, renames = layouts[best], guesses[best]
    absent = [name for name in layout if name not in given and name not in known]
    if renames:
        pairs = ", ".join(f'"{name}": "{own}"' for name, own in renames.items())
        rename = " and ".join(f"'{own}' to '{name}'" for name, own in renames.items())
        advice = f"Pass columns={{{pairs}}}, or rename {rename}."
    else:
        advice = f"Name the columns {' and '.join(layout)} in the file's first line (or as the JSON objects' keys)."
    problem = f"No column {' and no column '.join(repr(name) for name in absent)}."
    return UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=absent[0])


def _renames(found: list[str], layout: tuple[str, ...], given: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    """What the layout's absent columns may be called in the file."""
    free = [name for name in found if name not in given.values() and _plain(name) not in layout]
    renames: dict[str, str] = {}
    for name in layout:
        if name in given or name in known:
            continue
        alike = nearest(name, free)
        if alike:
            renames[name] = excerpt(alike)
            free.remove(alike)
    return renames


def _by_plain_name(found: list[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for own in found:
        known.setdefault(_plain(own), own)
    return {**known, **{own: own for own in found}}  # an exact name wins over "Text"


def _plain(name: str) -> str:
    return name.strip().casefold()


def _listed(found: list[str]) -> str:
    names = ", ".join(f"'{excerpt(name, 40)}'" for name in found[:20])
    return (names or "none") + (f" and {len(found) - 20} more" if len(found) > 20 else "")
