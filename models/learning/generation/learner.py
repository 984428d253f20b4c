"""Learner of models that write: examples in the prompt at once, then weights, if they are better on the same rows."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.artifacts.prompt import Prompt
from models.backbones.loading import Backbone
from models.backbones.writing import DecoderBackbone
from models.learning.contract import strategies
from models.learning.contract.errors import NotAWriter
from models.learning.contract.events import Progress, TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.evaluation import against_live, scores
from models.learning.generation import comparison, fit, judging, live, prompts, rows
from models.learning.generation.comparison import Written
from models.learning.generation.judging import Judgement
from models.learning.generation.material import Material, collect
from models.learning.generation.network import WritingNetwork, frozen
from models.learning.generation.strategies import PROMPTED
from models.learning.publishing import Trained, publish
from models.learning.run import Run

_BETTER = 0.9  # probability at which a candidate replaces the one before it
_MEASURING, _PROMPTED, _COMPARING = 10.0, 70.0, 98.0  # percent of the run; prompted: of one that trains nothing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could be published: its network behind its prompt, and how it does."""

    name: str
    network: WritingNetwork
    prompt: Prompt
    judgement: Judgement


class GenerationLearner:
    """Learner of `text-generation`; see `learner.Learner`."""

    def check(self, request: TrainRequest, backbone: Backbone) -> None:
        """Raise NotAWriter for a base that reads only, and UnsupportedStrategy."""
        if not _writes(backbone):
            raise NotAWriter(reason=f"the base model '{backbone.entry.name}' does not write", known="smollm2")
        strategies.check(request.strategy, request.task, backbone.entry)

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Yield a prompt at once, then what was trained and is better."""
        backbone = _decoder(run)
        yield Progress("encoding", 2.0, "Laying out the conversations as tokens")
        material = collect(run, backbone)
        run.report.state(**_facts(run, material))
        yield Progress("encoding", 3.0, _counted(material))
        _warn_of_cut_rows(run, backbone, material)
        best = yield from self._versions(run, backbone, material)
        if (serving := run.request.live) is not None:
            yield Progress("evaluating", _COMPARING, f"Comparing with version {serving.number}, which is live")
            run.report.keep_comparison(live.compare(run, backbone, material, serving, best.judgement))

    @staticmethod
    def _versions(run: Run, backbone: DecoderBackbone, material: Material) -> Generator[TrainEvent, None, Candidate]:
        """Yield a prompt, and what was trained; return the best one, judged on all held-out rows."""
        first = yield from _publish_prompt(run, backbone, material)
        strategy = run.request.strategy
        percent = _PROMPTED if strategy in PROMPTED else _MEASURING
        yield Progress("evaluating", percent, "Measuring base and examples on all held-out rows")
        base = Candidate(
            "zero-shot", frozen(backbone), material.plain, _judged(run, backbone, material, material.plain)
        )
        # Until here it was what few rows gave, on which the first version was judged, too.
        run.report.state(baseline={"base": base.judgement.tally.score, "gate": base.judgement.tally.score})
        if first.name != base.name:
            first = replace(first, judgement=_judged(run, backbone, material, first.prompt))
        else:
            first = base
        prompted = [base] if first is base else [base, first]
        for each in prompted:
            _note(run, material, each, 0.0)
        if strategy in PROMPTED:
            yield from _describe(run, backbone, material, prompted)
            return first
        trained, config = yield from fit.train(run, backbone, material, "lora" if strategy == "auto" else strategy)
        judgement = judging.judge(run, backbone, material, trained.network, material.plain)
        tuned = Candidate(trained.name, trained.network, replace(material.plain, strategy=trained.name), judgement)
        compared = judging.compare(judgement, first.judgement, seed=run.request.seed)
        improves = compared.probability >= _BETTER
        gain = {"gain": compared.gain, "gain_low": compared.low, "gain_high": compared.high}
        _note(run, material, tuned, trained.seconds, against=first.name, probability=compared.probability, **gain)
        losses = f"held-out loss {judgement.loss:.4f}, with {first.name} {first.judgement.loss:.4f}"
        verdict = f"is better than {first.name}" if improves else f"is not better than {first.name}, which stays"
        yield Progress(
            "evaluating",
            92.0,
            f"{tuned.name} {verdict}: {losses}, better with a probability of {compared.probability:.2f}",
            metrics={"validation_loss": judgement.loss, f"validation_loss_{first.name}": first.judgement.loss},
        )
        yield from _describe(run, backbone, material, [*prompted, tuned], tuned=tuned.name)
        parts = trained.network.parts(backbone.dtype)
        evaluation = judging.evaluation(run, material, judgement)
        model = Trained(tuned.name, parts, evaluation, config, details=tuned.prompt.as_details())
        version = publish(run, model, improves=improves)
        against_live.record_rows(run.training, material.training.places, version.artifact_dir)
        yield version
        return tuned if improves else first


def _publish_prompt(run: Run, backbone: DecoderBackbone, material: Material) -> Generator[TrainEvent, None, Candidate]:
    """Publish the base behind the customer's system message, or the examples that suit held-out rows best.

    Either is judged on a few of the held-out rows here: all of them take longer than the rest of it.
    """
    began = time.monotonic()
    strategy, shown = run.request.strategy, tuple[int, ...]()
    sets, rows_judged = prompts.SOON_SETS, prompts.SOON_JUDGED_ROWS
    if strategy in PROMPTED:
        sets, rows_judged = prompts.SETS, prompts.JUDGED_ROWS
    few = replace(material, held=material.held.first(rows_judged))
    if strategy == "zero-shot" or material.plain.form == "text" or material.pairs:
        prompt = material.plain
        judgement = plain = judging.judge(run, backbone, few, frozen(backbone), prompt)
    else:
        lengths_N = np.array([len(row) for row in material.training.tokens])
        choice = prompts.choose(
            backbone, material.training.texts, lengths_N, few.held.texts, material.plain,
            seed=run.request.seed, stop=run.stop, sets=sets, must=strategy == "few-shot",
        )  # fmt: skip
        prompt, shown = choice.prompt, choice.rows
        judgement, plain = (
            Judgement(found, run.task.tally(None, found.chosen)) for found in (choice.scores, choice.plain)
        )
    name = "few-shot" if prompt.examples else "zero-shot"
    run.report.state(baseline={"base": plain.tally.score, "gate": min(plain.tally.score, judgement.tally.score)})
    run.report.add_seconds("first_version", time.monotonic() - began)
    evaluation = judging.evaluation(run, few, judgement)
    used = {"examples": len(prompt.examples)}
    model = Trained(name, (), evaluation, used, details=replace(prompt, strategy=name).as_details())
    version = publish(run, model, improves=True)
    against_live.record_rows(run.training, [material.training.places[row] for row in shown], version.artifact_dir)
    yield version
    yield Progress("fitting", 8.0, f"{name} can be called", metrics={"validation_loss": judgement.loss})
    return Candidate(name, frozen(backbone), prompt, judgement)


def _describe(
    run: Run, backbone: DecoderBackbone, material: Material, candidates: list[Candidate], *, tuned: str | None = None
) -> Iterator[TrainEvent]:
    """Let the candidates write some held-out answers, for the report. It costs seconds, after the first version."""
    began = time.monotonic()
    written: dict[str, Written | None] = {}
    names = {"zero-shot": "base", "few-shot": "few_shot"} | ({} if tuned is None else {tuned: "tuned"})
    for at, each in enumerate(candidates):
        yield Progress("evaluating", 93.0 + 5.0 * at / len(candidates), f"Writing answers with {each.name}")
        found = comparison.write(backbone, each.network, material.held.texts, each.prompt, stop=run.stop)
        written[names[each.name]] = found
    figures = {name: found.figures for name, found in written.items() if found is not None}
    run.report.state(written=figures, samples=comparison.side_by_side(material.held.texts, written) if figures else [])
    run.report.add_seconds("writing", time.monotonic() - began)


def _judged(run: Run, backbone: DecoderBackbone, material: Material, prompt: Prompt) -> Judgement:
    return judging.judge(run, backbone, material, frozen(backbone), prompt)


def _counted(material: Material) -> str:
    """Say what there is to learn from, in tokens."""
    learned = sum(row.learned for row in material.training.tokens)
    longest = max(map(len, material.training.tokens))
    return (
        f"{len(material.training)} rows to learn from: {material.tokens} tokens, {learned} of them answers, {longest} "
        f"in the longest row; {len(material.held)} rows held out"
    )


def _warn_of_cut_rows(run: Run, backbone: DecoderBackbone, material: Material) -> None:
    cut = material.figures.get("rows_cut")
    if cut is None:
        return
    listed = ", ".join(map(str, cut["rows"])) + (", …" if cut["count"] > len(cut["rows"]) else "")
    plural, does = ("", "has") if cut["count"] == 1 else ("s", "have")
    message = (
        f"{cut['count']} row{plural} of the training file {does} more than the {backbone.max_tokens} tokens that "
        f"'{backbone.entry.name}' reads and {'is' if cut['count'] == 1 else 'are'} cut: {listed}. With "
        "long_rows='refuse' the job is refused instead."
    )
    run.report.add_warning("truncated", message, **cut, base=backbone.entry.name)


def _note(run: Run, material: Material, candidate: Candidate, seconds: float, **more: Any) -> None:
    """Add a candidate to what was tried."""
    found = scores.score(candidate.judgement.tally, seed=run.request.seed)
    interval = {"score": found.value, "score_low": found.low, "score_high": found.high}
    run.report.add_tried(
        candidate.name, **interval, loss=candidate.judgement.loss, rows=len(material.held), seconds=seconds, **more
    )


def _facts(run: Run, material: Material) -> dict[str, Any]:
    """Return the report's facts of the data."""
    facts = run.describe(run.training, tokens=material.tokens)
    learned = sum(row.learned for row in material.training.tokens)
    data = {
        **facts["data"],
        "rows_of_head": 0,
        "learned_tokens": learned,
        "longest_row": max(map(len, material.training.tokens)),
        "held_out_rows": len(material.held),
        "form": material.plain.form,
        "method": "dpo" if material.pairs and run.request.hyperparameters.method != "supervised" else "supervised",
        "shared_tokens": rows.shared_prefix(material.training.tokens),
        **material.figures,
    }
    return {**facts, "data": data}


def _writes(backbone: Any) -> bool:
    return isinstance(backbone, DecoderBackbone)


def _decoder(run: Run) -> DecoderBackbone:
    backbone: Any = run.backbone
    if not isinstance(backbone, DecoderBackbone):
        raise NotAWriter(reason=f"the base model '{run.backbone.entry.name}' does not write", known="smollm2")
    return backbone
