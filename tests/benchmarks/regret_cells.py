"""The cells of the regret benchmark: a data set at a size, and the single strategies that make sense there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from models.learning.request import Strategy
from tests.benchmarks import task_sets
from tests.benchmarks.task_sets import TaskSet

_MOST_TESTED = 1_000
_CHEAP: tuple[Strategy, ...] = ("zero-shot", "head")
_ALL: tuple[Strategy, ...] = (*_CHEAP, "lora", "partial", "full")
_DEEP: tuple[Strategy, ...] = (*_CHEAP, "partial", "full")


@dataclass(frozen=True)
class Cell:
    """`singles`: what `auto` is compared with; each of them is run to its end."""

    name: str
    data: Callable[[], TaskSet]
    singles: tuple[Strategy, ...]
    base: str = "minilm"


def cells() -> tuple[Cell, ...]:
    """Small and large, near to what the base knows and far from it, in texts, pictures and sounds.

    Sizes are such that all of it ends within half an hour on two quiet cores: a large set is one with many rows per
    class, so sets of few classes are large soon.
    """
    return (
        Cell("banking77_2", _few(task_sets.banking77, 2), _ALL),
        Cell("banking77_5", _few(task_sets.banking77, 5), _DEEP),
        Cell("sms_spam_20", _few(task_sets.sms_spam, 20), _ALL),
        Cell("sms_spam_150", _few(task_sets.sms_spam, 150), _DEEP),
        Cell("trec_10", _few(task_sets.trec, 10), (*_ALL, "scratch")),
        Cell("trec_100", _few(task_sets.trec, 100), _DEEP),
        Cell("nlupp_banking_150", _drawn_labels(task_sets.nlupp_banking, 150), _ALL),
        Cell("nlupp_banking_500", _drawn_labels(task_sets.nlupp_banking, 500), (*_CHEAP, "partial")),
        Cell("xquad_de_3", _few(task_sets.xquad_de, 3), _DEEP),
        Cell("xquad_de_10", _few(task_sets.xquad_de, 10), (*_CHEAP, "partial")),
        Cell("hymenoptera_15", _few(task_sets.hymenoptera, 15), _DEEP, "mobilenet"),
        Cell("hymenoptera_all", task_sets.hymenoptera, (*_CHEAP, "partial"), "mobilenet"),
        Cell("fsdd_digits_10", _few(task_sets.fsdd_digits, 10), (*_DEEP, "scratch"), "yamnet"),
        Cell("fsdd_digits_50", _few(task_sets.fsdd_digits, 50), _DEEP, "yamnet"),
    )


def _few(data: Callable[[], TaskSet], per_class: int) -> Callable[[], TaskSet]:
    return lambda: _tested(task_sets.few(data(), per_class))


def _drawn_labels(data: Callable[[], TaskSet], rows: int) -> Callable[[], TaskSet]:
    def build() -> TaskSet:
        whole = data()
        train = task_sets.drawn(whole.train, rows)
        # A label of a single row is refused at the upload. The test keeps it: what cannot be learned is missed.
        counts = Counter(label for row in train for label in row["labels"])
        train = [{**row, "labels": [label for label in row["labels"] if counts[label] > 1]} for row in train]
        return _tested(replace(whole, train=train))

    return build


def _tested(data: TaskSet) -> TaskSet:
    return replace(data, test=task_sets.drawn(data.test, _MOST_TESTED))
