"""The cells of the regret benchmark: a data set at a size, and the single strategies that make sense there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from models.learning.contract.request import Strategy
from tests.benchmarks import task_sets
from tests.benchmarks.task_sets import TaskSet

_MOST_TESTED = 1_000
_DRAWS = 3  # of cells of a hundred rows or fewer
_ALL: tuple[Strategy, ...] = ("zero-shot", "head", "lora", "partial", "full", "scratch")
# Of a base without linear layers.
_CONVOLVED: tuple[Strategy, ...] = ("zero-shot", "head", "partial", "full", "scratch")


@dataclass(frozen=True)
class Cell:
    """`singles`: what `auto` is compared with; each of them is run to its end.

    `data` is given the number of a draw. Where rows are a handful, every strategy is run on several draws and the means
    are compared: what fine-tuning makes of one handful differs by ten points from seed to seed (Mosbach et al. 2021),
    and the best of several such draws of luck is nobody's strategy.
    """

    name: str
    data: Callable[[int], TaskSet]
    singles: tuple[Strategy, ...] = _ALL
    base: str = "minilm"
    draws: int = 1


def cells() -> tuple[Cell, ...]:
    """Small and large, near to what the base knows and far from it, in texts, pictures and sounds.

    A large set is one with many rows per class, so sets of few classes are large soon. All of it takes minutes of
    several processes on one GPU (`GRAFT_BENCH_CELLS` divides it), and hours on two cores.
    """
    return (
        Cell("banking77_2", _few(task_sets.banking77, 2)),
        Cell("banking77_5", _few(task_sets.banking77, 5)),
        Cell("sms_spam_20", _few(task_sets.sms_spam, 20), draws=_DRAWS),
        Cell("sms_spam_150", _few(task_sets.sms_spam, 150)),
        Cell("trec_10", _few(task_sets.trec, 10), draws=_DRAWS),
        Cell("trec_100", _few(task_sets.trec, 100)),
        Cell("nlupp_banking_150", _drawn_labels(task_sets.nlupp_banking, 150)),
        Cell("nlupp_banking_500", _drawn_labels(task_sets.nlupp_banking, 500)),
        Cell("xquad_de_3", _few(task_sets.xquad_de, 3)),
        Cell("xquad_de_10", _few(task_sets.xquad_de, 10)),
        Cell("stsb_de_1500", _drawn(partial(task_sets.stsb, "de"), 1_500)),
        Cell("wnut17_1000", _drawn(task_sets.wnut17, 1_000)),
        Cell("wnut17_1500", _drawn(task_sets.wnut17, 1_500)),
        Cell("hymenoptera_15", _few(task_sets.hymenoptera, 15), _CONVOLVED, "mobilenet", _DRAWS),
        Cell("hymenoptera_all", lambda _: task_sets.hymenoptera(), _CONVOLVED, "mobilenet"),
        Cell("fsdd_digits_10", _few(task_sets.fsdd_digits, 10), _CONVOLVED, "yamnet", _DRAWS),
        Cell("fsdd_digits_50", _few(task_sets.fsdd_digits, 50), _CONVOLVED, "yamnet"),
    )


def _few(data: Callable[[], TaskSet], per_class: int) -> Callable[[int], TaskSet]:
    return lambda draw: _tested(task_sets.few(data(), per_class, task_sets.SEED + draw))


def _drawn(data: Callable[[], TaskSet], rows: int) -> Callable[[int], TaskSet]:
    def build(draw: int) -> TaskSet:
        whole = data()
        return _tested(replace(whole, train=task_sets.drawn(whole.train, rows, task_sets.SEED + draw)))

    return build


def _drawn_labels(data: Callable[[], TaskSet], rows: int) -> Callable[[int], TaskSet]:
    def build(draw: int) -> TaskSet:
        drawn = _drawn(data, rows)(draw)
        # A label of a single row is refused at the upload. The test keeps it: what cannot be learned is missed.
        counts = Counter(label for row in drawn.train for label in row["labels"])
        train = [{**row, "labels": [label for label in row["labels"] if counts[label] > 1]} for row in drawn.train]
        return replace(drawn, train=train)

    return build


def _tested(data: TaskSet) -> TaskSet:
    return replace(data, test=task_sets.drawn(data.test, _MOST_TESTED))
