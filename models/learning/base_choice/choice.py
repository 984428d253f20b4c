"""Choice of the base of a run: every candidate is probed, the cheapest first, unless earlier jobs tell enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import structlog

from models.backbones.errors import BaseModelUnreachable, UnsupportedBaseModel
from models.backbones.loading import Backbone
from models.backbones.parallel import one_thread_each
from models.learning import tasks
from models.learning.activity import EVERY_S, Activity, report
from models.learning.base_choice import policy, probe
from models.learning.base_choice.probe import Probe, Rows
from models.learning.contract.base_choice import ONLY_BASE, PROBE, BaseProbe
from models.learning.contract.events import BaseChosen, Progress
from models.learning.contract.outcomes import Circumstances, Outcome
from models.learning.contract.request import TrainRequest
from models.learning.data.corpus import read_training
from models.learning.evaluation import scores

log = structlog.get_logger(__name__)


def choose(
    request: TrainRequest, load: Callable[[str], Any], *, stop: Callable[[], bool], every_s: float = EVERY_S
) -> Iterator[Progress | BaseChosen]:
    """Yield what is being probed, every so often again, and at the end the base of `request.base_candidates` chosen.

    `load` gives a base by its name. One that cannot be loaded is passed over, and said; if none can, the error of the
    last is raised. Raises InvalidRequest errors for what the customer can mend, and Stopped.
    """
    activity = Activity(stop)
    with one_thread_each():
        yield from report(_choose(request, load, activity), activity, every_s=every_s)


def _choose(
    request: TrainRequest, load: Callable[[str], Any], stop: Callable[[], bool]
) -> Iterator[Progress | BaseChosen]:
    began = time.monotonic()
    names = request.base_candidates
    if len(names) == 1:
        yield BaseChosen(base=names[0], reason=ONLY_BASE)
        return
    corpus, task, _ = read_training(request.training, tasks.find(request.task), request.hyperparameters.rare())
    everything = Rows(corpus, tasks.encoder_task(task), request.seed, stop)
    drawn: Rows | None = None
    probes: list[Probe] = []
    others: list[BaseProbe] = []
    failure: Exception | None = None
    for name in names:
        if probes and policy.is_hopeless(_earlier(request, name, probes[0], drawn)):
            others.append(
                BaseProbe(base=name, note=f"not probed: it lost to {probes[0].figures.base} in jobs like this")
            )
            continue
        yield Progress("probing", 0.0, f"Probing the base {name}")
        try:
            backbone: Backbone = load(name)
        except (BaseModelUnreachable, UnsupportedBaseModel) as error:
            log.warning("base_not_probed", base=name, reason=str(error))
            others.append(BaseProbe(base=name, note=f"not probed: {error}"))
            failure = error
            continue
        drawn = drawn or probe.draw(corpus, backbone, everything)
        probes.append(probe.measure(name, backbone, drawn))
    if drawn is None:
        assert failure is not None  # noqa: S101  (there are candidates, and none was loaded)
        raise failure
    yield _decide(probes, others, drawn, time.monotonic() - began)


def _decide(probes: Sequence[Probe], others: Sequence[BaseProbe], rows: Rows, seconds: float) -> BaseChosen:
    by_name = {each.figures.base: each for each in probes}
    found = {name: float(each.figures.score or 0.0) for name, each in by_name.items()}
    best = by_name[max(found, key=lambda name: found[name])]
    beaten = {
        name: scores.compare(best.tally, each.tally, seed=rows.seed).probability for name, each in by_name.items()
    }
    chosen = by_name[policy.pick(found, beaten)]
    return BaseChosen(
        base=chosen.figures.base,
        reason=_reason(chosen, best, probes, len(rows.corpus)),
        metric=rows.task.metric,
        rows=len(rows.corpus),
        probes=(*(each.figures for each in probes), *others),
        seconds=seconds,
        reference=probes[0].figures.base,
        outcomes=_outcomes(probes, rows),
    )


def _reason(chosen: Probe, best: Probe, probes: Sequence[Probe], rows: int) -> str:
    name, score = chosen.figures.base, chosen.figures.score
    if len(probes) == 1:
        return f"{name} is the only base that was probed: {score:.3f} on {rows} rows."
    if chosen is not best:
        rival = best.figures
        return (
            f"{name} ({score:.3f}) is as good as {rival.base} ({rival.score:.3f}) on {rows} rows, up to chance, "
            "and costs less."
        )
    second = max((each.figures for each in probes if each is not best), key=lambda each: each.score or 0.0)
    return f"{name} ({score:.3f}) answers {rows} held-out rows best, before {second.base} ({second.score:.3f})."


def _outcomes(probes: Sequence[Probe], rows: Rows) -> tuple[Outcome, ...]:
    """Return how each base did beside the reference, the first that was probed."""
    first, *rest = probes
    here = _circumstances(rows, first)
    found = []
    for each in rest:
        compared = scores.compare(each.tally, first.tally, seed=rows.seed)
        outcome = Outcome(
            base_revision=first.revision,
            task=rows.task.name,
            rows=here.rows,
            classes=here.classes,
            rows_per_class=here.rows_per_class,
            separability=0.0,
            head_score=here.head_score or 0.0,
            depth_scores=(),
            candidate=PROBE,
            error_reduction=compared.gain / max(1.0 - (first.figures.score or 0.0), 1e-6),
            probability=compared.probability,
            base=each.figures.base,
        )
        found.append(outcome)
    return tuple(found)


def _earlier(request: TrainRequest, name: str, first: Probe, rows: Rows | None) -> list[tuple[float, float]]:
    """Return nearness and probability of earlier probes of a base beside the same reference."""
    if rows is None:
        return []
    here = _circumstances(rows, first)
    return [
        (here.nearness(replace(each.circumstances, separability=None)), each.probability)
        for each in request.priors
        if (each.candidate, each.base, each.base_revision) == (PROBE, name, first.revision)
        and each.task == request.task
    ]


def _circumstances(rows: Rows, first: Probe) -> Circumstances:
    count, classes = len(rows.corpus), len(rows.corpus.labels)
    return Circumstances(count, classes, count / max(classes, 1), head_score=first.figures.score)
