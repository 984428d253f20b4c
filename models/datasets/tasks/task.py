"""The interface of a task of data sets: its columns, how a row becomes an example, what a whole set must satisfy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from models.datasets.examples import Example
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem

# Column of what rows belong to: those of one group are held out together.
GROUP = "group"
Modality = Literal["text", "image", "audio"]


@dataclass(frozen=True, slots=True)
class Remark:
    """How a row was read where another reading is thinkable: counted into a warning "`what` in 3 rows. `advice`".

    `usual`: it is worth a word only in a file whose other rows were mostly read in another usual way.
    """

    what: str
    advice: str = ""
    usual: bool = False


class Statistics(Protocol):
    """Counts over all examples of a file, in memory that does not grow with its rows."""

    labels: dict[str, int]

    def add(self, example: Example) -> None:
        """Count one example."""

    def check(self) -> None:
        """Raise an InvalidDataset if a model cannot be trained on what was counted."""

    def warnings(self) -> list[dict[str, Any]]:
        """Return warnings: {code, message, …}."""


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of problem, as a table of names and functions.

    - `modality`: what a base model has to read to learn it.
    - `learner`: the name of the learner that trains it, in the table of `models.learning.learners`.
    - `layouts`: the canonical columns a row may have; one layout suffices, the first that fits is taken.
    - `parse(row, limits)`: the example, or everything that is wrong with the row.
    - `statistics(limits)`: statistics of no example yet.
    - `verify(example, limits)`: the example again after a closer look at what it holds, or what is wrong with it. Done
      once, when a file is uploaded.
    - `remarks(row, example)`: how the row was read where another reading is thinkable.
    - `noun`, `target`: what goes in and what comes out, for messages.
    - `inferred`: whether a file's columns alone can mean it.
    - `learned_as`: the task whose way of learning and answering it shares; empty if it has its own.
    """

    name: str
    modality: Modality
    learner: str
    layouts: tuple[tuple[str, ...], ...]
    parse: Callable[[Row, Limits], Example | list[Problem]]
    statistics: Callable[[Limits], Statistics]
    optional: tuple[str, ...] = ()  # beside `GROUP`, which rows of all tasks may have
    verify: Callable[[Example, Limits], Example | Problem] | None = None
    remarks: Callable[[Row, Example], list[Remark]] | None = None
    noun: str = "text"
    target: str = "label"
    inferred: bool = True
    learned_as: str = ""
