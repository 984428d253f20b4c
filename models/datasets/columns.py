"""The assignment of a file's columns to a task's: inferred from names, or given as `columns={"label": "category"}`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from models.datasets.errors import ColumnTwice, TwoReadings, UnknownColumns
from models.datasets.problems import excerpt
from models.datasets.tasks import TASKS, find, text_generation
from models.datasets.tasks.task import GROUP, Task

# What people call these columns, for the nearest name when nothing is spelt alike.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "text": ("sentence", "message", "utterance", "review", "comment", "body", "content", "query", "question", "prompt",
             "description", "input", "document", "title", "tweet", "sms", "email",
             "sentence1", "premise", "question1", "text1", "text_a"),
    "label": ("category", "class", "intent", "target", "sentiment", "topic", "tag", "type", "completion", "output",
              "answer", "y", "labels", "rating", "verdict", "is_duplicate", "gold_label"),
    "labels": ("tags", "categories", "classes", "intents", "topics", "targets", "genres", "label"),
    "value": ("score", "rating", "target", "y", "label", "similarity", "number", "grade"),
    "text_pair": ("sentence2", "text2", "second", "hypothesis", "question2", "textb", "text_b"),
    "spans": ("entities", "labels", "annotations"),
    "tokens": ("words",),
    "tags": ("ner_tags", "iob", "labels", "bio"),
}  # fmt: skip
_COMPARED_CHARS = 100
_CANONICAL = frozenset(
    name for task in TASKS.values() for layout in task.layouts for name in (*layout, *task.optional, GROUP)
)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The task of a file, its columns, and known columns that it does not use."""

    task: Task
    columns: dict[str, str]  # canonical name → the file's own
    unused: tuple[str, ...] = ()  # the file's own names


def arrange(
    found: list[str],
    task: str | None,
    columns: dict[str, str] | None,
    *,
    media: bool = False,
    among: Sequence[Task] | None = None,
) -> Arrangement:
    """Find the task of a file with the columns `found`; `media`: its rows are pictures or sounds.

    `among`: the tasks that it may be of, where they are not those of the table.

    Names match without regard to case and surrounding space. Raises UnknownTask, UnknownColumns, ColumnTwice, and
    TwoReadings where the columns are those of several tasks and nothing says which is meant.
    """
    wanted = [each for each in among or _stated(task) if not media or task is not None or each.modality != "text"]
    given = _given(found, columns or {}, wanted)
    known = _by_plain_name(found)
    fits = [fit for each in wanted if (fit := _fit(each, given, known)) is not None]
    # Two texts and a label are a pair, not a text beside an unused column.
    fits = [fit for fit in fits if not any(set(fit.columns) < set(other.columns) for other in fits)]
    if not fits:
        raise _missing(found, wanted, given, known)
    chosen = fits[0]
    if len(fits) > 1:
        raise _two_readings(found, fits)
    for own in chosen.columns.values():
        if found.count(own) > 1:
            raise ColumnTwice(column=excerpt(own))
    return replace(chosen, unused=_unused(chosen, known))


def names_any(found: Iterable[str]) -> bool:
    """Return whether any of a file's columns is called as a task's are, or as people call those."""
    usual = _CANONICAL.union(*_SYNONYMS.values())
    return any(_plain(own) in usual for own in found)


def is_canonical(name: str) -> bool:
    """Return whether a column of this name is one that some task reads."""
    return _plain(name) in _CANONICAL


def _fit(task: Task, given: dict[str, str], known: dict[str, str]) -> Arrangement | None:
    for layout in task.layouts:
        mapping = {name: given.get(name) or known.get(name, "") for name in (*layout, *task.optional, GROUP)}
        if all(mapping[name] for name in layout) and all(name in mapping for name in given):
            return Arrangement(task, {name: own for name, own in mapping.items() if own})
    return None


def _unused(chosen: Arrangement, known: dict[str, str]) -> tuple[str, ...]:
    used = set(chosen.columns.values())
    names = [name for name in known if known[name] not in used]
    second = () if "text_pair" in chosen.columns else _SYNONYMS["text_pair"]
    return tuple(dict.fromkeys(known[name] for name in names if _plain(name) in {*_CANONICAL, "weight", *second}))


def _two_readings(found: list[str], fits: list[Arrangement]) -> TwoReadings:
    shown = [f"{fit.task.name} ({', '.join(repr(own) for own in fit.columns.values())})" for fit in fits]
    advice = f'Say which: task="{fits[0].task.name}" or task="{fits[1].task.name}".'
    return TwoReadings(readings=" or as ".join(shown), found=_listed(found), advice=advice)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelt or meant most like `name`; long ones are not compared, which is quadratic."""
    plain = {
        _plain(candidate): candidate for candidate in candidates if candidate and len(candidate) <= _COMPARED_CHARS
    }
    alike = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.7) if len(name) <= _COMPARED_CHARS else []
    if alike:
        return plain[alike[0]]
    for synonym in _SYNONYMS.get(name, ()):
        if synonym in plain:
            return plain[synonym]
    return None


def _stated(task: str | None) -> list[Task]:
    return [each for each in TASKS.values() if each.inferred] if task is None else [find(task)]


def _given(found: list[str], columns: dict[str, str], wanted: list[Task]) -> dict[str, str]:
    canonical = {name for task in wanted for layout in task.layouts for name in (*layout, *task.optional, GROUP)}
    known = set(found)
    for name, own in columns.items():
        if not own.strip():
            problem = f"columns names no column for '{excerpt(name)}'."
            advice = "A column without a name cannot be used: write one in the file's first line."
            raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=excerpt(name))
        if name not in canonical:
            alike = nearest(name, canonical)
            hint = f"Did you mean '{alike}'? " if alike else ""
            advice = f"{hint}The names to the left are: {', '.join(sorted(canonical))}."
            problem = f"columns names '{excerpt(name)}', which the task does not have."
            raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=excerpt(name))
        if own not in known:
            alike = nearest(own, found)
            advice = f'Did you mean columns={{"{name}": "{excerpt(alike)}"}}?' if alike else "Name one of them."
            problem = f"The file has no column '{excerpt(own)}', which columns names for '{name}'."
            raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=excerpt(own))
    times = Counter(columns.values())
    twice = next((name for name, own in columns.items() if times[own] > 1), None)
    if twice is not None:
        problem = f"columns names '{excerpt(columns[twice])}' twice."
        raise UnknownColumns(problem=problem, found=_listed(found), advice="Name another.", column=excerpt(twice))
    _refuse_mixture(found, columns, wanted)
    return columns


def _refuse_mixture(found: list[str], columns: dict[str, str], wanted: list[Task]) -> None:
    """Raise UnknownColumns for names of which no task has all."""
    tasks_of = {
        name: {task.name for task in wanted for layout in task.layouts if name in (*layout, *task.optional, GROUP)}
        for name in columns
    }
    together = [{*layout, *task.optional, GROUP} for task in wanted for layout in task.layouts]
    if not columns or any(set(columns) <= names for names in together):
        return
    apart = [
        (one, other) for one, other in combinations(columns, 2) if not any({one, other} <= names for names in together)
    ]
    one, other = apart[0] if apart else (min(columns), max(columns))
    problem = (
        f"columns names '{one}' and '{other}', which belong to different tasks: {_named(tasks_of[one])} has '{one}', "
        f"{_named(tasks_of[other])} has '{other}'."
    )
    advice = f"Name one of them: '{one}' or '{other}'."
    raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=one)


def _named(tasks: set[str]) -> str:
    return " or ".join(sorted(tasks))


def _missing(found: list[str], wanted: list[Task], given: dict[str, str], known: dict[str, str]) -> UnknownColumns:
    if not given and (len(wanted) > 1 or wanted[0].name == text_generation.NAME):
        _refuse_instructions(found, known)
    # The layout that is there as a whole, if some names are changed, or else that of which most is there, is what the
    # file was meant to be.
    layouts = [layout for task in wanted for layout in task.layouts]
    guesses = [_renames(found, layout, given, known) for layout in layouts]
    fits = []
    for layout, guess in zip(layouts, guesses, strict=True):
        present = sum(name in given or name in known for name in layout)
        # A name that was given and is not in the layout speaks against it.
        foreign = sum(name not in layout for name in given)
        fits.append((-foreign, present + len(guess) == len(layout), present + len(guess), present))
    best = max(range(len(layouts)), key=lambda place: fits[place])
    layout, renames = layouts[best], guesses[best]
    absent = [name for name in layout if name not in given and name not in known]
    left = [name for name in absent if name not in renames]
    used = {*given.values(), *renames.values(), *(known[name] for name in layout if name in known)}
    free = [own for own in found if own.strip() and own not in used]
    if len(left) == len(free) == 1:  # one name and one column are left: whatever it is called, it may be meant
        renames[left[0]] = excerpt(free[0])
    if renames:
        pairs = ", ".join(f'"{name}": "{own}"' for name, own in renames.items())
        rename = " and ".join(f"'{own}' to '{name}'" for name, own in renames.items())
        advice = f"Pass columns={{{pairs}}}, or rename {rename}."
    else:
        advice = f"Name the columns {' and '.join(layout)} in the file's first line (or as the JSON objects' keys)."
    problem = f"No column {' and no column '.join(repr(name) for name in absent)}."
    return UnknownColumns(problem=problem, found=_listed(found), advice=advice, column=absent[0])


def _refuse_instructions(found: list[str], known: dict[str, str]) -> None:
    """Raise UnknownColumns for instructions and answers to them, as Alpaca's and Dolly's files have them."""
    asked = known.get("instruction")
    answer = next((known[name] for name in ("output", "response") if name in known), None)
    if asked is None or answer is None:
        return
    advice = f'pass task="{text_generation.NAME}", columns={{"prompt": "{asked}", "completion": "{answer}"}}.'
    beside = next((known[name] for name in ("input", "context") if name in known), None)
    if beside is None:
        advice = f"To teach a model to write, {advice}"
    else:
        advice = (
            f"To teach a model to write, join '{asked}' and '{beside}' of each row into one column 'prompt', with a "
            f"blank line between them, and rename '{answer}' to 'completion'. If '{beside}' is empty everywhere, "
            f"{advice}"
        )
    problem = "No column 'prompt' and no column 'completion': these are instructions and answers to them."
    raise UnknownColumns(problem=problem, found=_listed(found), advice=advice, column="prompt")


def _renames(found: list[str], layout: tuple[str, ...], given: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    """Return what the layout's absent columns may be called in the file."""
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
