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
from models.learning.contract.errors import NotAWriter
from models.learning.contract.events import Progress, TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.evaluation import scores
from models.learning.generation import comparison, fit, judging, prompts, rows
from models.learning.generation.comparison import Written
from models.learning.generation.judging import Judgement
from models.learning.generation.material import Material, collect
from models.learning.generation.network import WritingNetwork, frozen
from models.learning.generation.strategies import PROMPTED
from models.learning.publishing import Trained, publish
from models.learning.run import Run

STRATEGIES = ("auto", *PROMPTED, "lora", "partial", "full")
_BETTER = 0.9  # probability at which a candidate replaces the one before it


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
        """Raise NotAWriter for a base that reads only, or a strategy of such bases."""
        if not _writes(backbone):
            raise NotAWriter(reason=f"the base model '{backbone.entry.name}' does not write", known="smollm2")
        if request.strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise NotAWriter(reason=f"the strategy '{request.strategy}' is not one of models that write", known=known)

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Yield a prompt at once, then what was trained and is better."""
        backbone = _decoder(run)
        yield Progress("encoding", 2.0, "Laying out the conversations as tokens")
        material = collect(run, backbone)
        run.report.state(**_facts(run, material))
        first, published = yield from _publish_prompt(run, backbone, material)
        strategy = run.request.strategy
        if strategy in PROMPTED:
            if material.figures.get("judged_on") != len(material.held):
                yield Progress("evaluating", 70.0, "Measuring on all held-out rows")
            yield from _describe(run, backbone, material, [first], published)
            return
        yield Progress("evaluating", 10.0, "Measuring base and examples on all held-out rows")
        base = Candidate(
            "zero-shot", frozen(backbone), material.plain, _judged(run, backbone, material, material.plain)
        )
        if first.name != base.name:
            first = replace(first, judgement=_judged(run, backbone, material, first.prompt))
        else:
            first = base
        _note(run, material, base, 0.0)
        if first is not base:
            _note(run, material, first, 0.0)
        trained, config = yield from fit.train(run, backbone, material, "lora" if strategy == "auto" else strategy)
        judgement = judging.judge(run, backbone, material, trained.network, material.plain)
        tuned = Candidate(trained.name, trained.network, replace(material.plain, strategy=trained.name), judgement)
        compared = scores.compare(judgement.tally, first.judgement.tally, seed=run.request.seed)
        better = compared.probability >= _BETTER
        gain = {"gain": compared.gain, "gain_low": compared.low, "gain_high": compared.high}
        _note(run, material, tuned, trained.seconds, against=first.name, probability=compared.probability, **gain)
        yield Progress(
            "evaluating",
            92.0,
            f"{tuned.name}: held-out loss {judgement.loss:.4f}; {first.name}: {first.judgement.loss:.4f}",
            metrics={"validation_loss": judgement.loss, f"validation_loss_{first.name}": first.judgement.loss},
        )
        yield from _describe(
            run, backbone, material, [base, first, tuned] if first is not base else [base, tuned], None
        )
        parts = trained.network.parts(backbone.dtype)
        evaluation = judging.evaluation(run, material, judgement)
        model = Trained(tuned.name, parts, evaluation, config, details=tuned.prompt.as_details())
        yield publish(run, model, improves=better or strategy != "auto")


def _publish_prompt(
    run: Run, backbone: DecoderBackbone, material: Material
) -> Generator[TrainEvent, None, tuple[Candidate, bool]]:
    """Publish the base behind the customer's system message, or the examples that suit held-out rows best."""
    began = time.monotonic()
    judged = material.held.first(prompts.JUDGED_ROWS)
    strategy = run.request.strategy
    if strategy == "zero-shot" or material.plain.form == "text" or material.pairs:
        prompt = material.plain
    else:
        lengths_N = np.array([len(row) for row in material.training.tokens])
        choice = prompts.choose(
            backbone, material.training.texts, lengths_N, judged.texts, material.plain,
            seed=run.request.seed, stop=run.stop, must=strategy == "few-shot",
        )  # fmt: skip
        prompt = choice.prompt
    small = replace(material, held=judged) if strategy not in PROMPTED else material
    judgement = judging.judge(run, backbone, small, frozen(backbone), prompt)
    name = "few-shot" if prompt.examples else "zero-shot"
    plain = judgement if not prompt.examples else judging.judge(run, backbone, small, frozen(backbone), material.plain)
    run.report.state(baseline={"base": plain.tally.score, "gate": min(plain.tally.score, judgement.tally.score)})
    run.report.add_seconds("first_version", time.monotonic() - began)
    evaluation = judging.evaluation(run, small, judgement)
    used = {"examples": len(prompt.examples)}
    model = Trained(name, (), evaluation, used, details=replace(prompt, strategy=name).as_details())
    yield publish(run, model, improves=True)
    yield Progress("fitting", 8.0, f"{name} can be called", metrics={"validation_loss": judgement.loss})
    return Candidate(name, frozen(backbone), prompt, judgement), strategy in PROMPTED


def _describe(
    run: Run, backbone: DecoderBackbone, material: Material, candidates: list[Candidate], published: bool | None
) -> Iterator[TrainEvent]:
    """Let the candidates write some held-out answers, for the report. It costs seconds, after the first version."""
    began = time.monotonic()
    written: dict[str, Written | None] = {}
    names = {candidates[-1].name: "tuned"} if published is None else {}
    everyone = [*candidates]
    if published and candidates[0].prompt.examples:
        everyone.insert(0, Candidate("zero-shot", frozen(backbone), material.plain, candidates[0].judgement))
    for at, each in enumerate(everyone):
        yield Progress("evaluating", 93.0 + 5.0 * at / len(everyone), f"Writing answers with {each.name}")
        key = names.get(each.name, "base" if each.name == "zero-shot" else each.name.replace("-", "_"))
        written[key] = comparison.write(backbone, each.network, material.held.texts, each.prompt, stop=run.stop)
    figures = {name: found.figures for name, found in written.items() if found is not None}
    run.report.state(written=figures, samples=comparison.side_by_side(material.held.texts, written) if figures else [])
    run.report.add_seconds("writing", time.monotonic() - began)


def _judged(run: Run, backbone: DecoderBackbone, material: Material, prompt: Prompt) -> Judgement:
    return judging.judge(run, backbone, material, frozen(backbone), prompt)


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
