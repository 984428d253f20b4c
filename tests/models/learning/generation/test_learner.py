"""The learner of models that write: a prompt first, then weights; judged on the same rows; resumed to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from models.artifacts.folder import read_artifact
from models.artifacts.parts import BlockWeights, LowRankWeights
from models.artifacts.prompt import Prompt
from models.datasets.examples import Answer, Conversation
from models.learning import training
from models.learning.contract.errors import NotAWriter, RowsTooLong, Stopped, UnsupportedStrategy
from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.contract.request import Hyperparameters
from models.learning.generation import checkpoints, judging, network, strategies, training_loop
from models.learning.generation import rows as token_rows
from models.learning.generation.judging import Judgement
from models.learning.generation.network import of_parts
from models.learning.generation.scoring import RowScores
from models.learning.generation.training_loop import Measure, Pair
from models.learning.tasks.text_generation import TextGeneration
from tests.models.learning.generation.conftest import chat, colours

FAST = {"learning_rate": 5e-3, "n_epochs": 4, "batch_size": 4}


def _run(request, writer, stop=lambda: False):
    return list(training.train(request, writer, stop=stop))


def _versions(events):
    return [event for event in events if isinstance(event, VersionReady)]


def _steps(events):
    """The events of single steps, as they come."""
    return (event for event in events if isinstance(event, Progress) and "train_loss" in event.metrics)


def test_a_prompt_is_a_version_at_once_and_lora_takes_its_place(writer, ask):
    events = _run(ask(colours(), "auto", **FAST), writer)
    versions = _versions(events)
    assert [version.name for version in versions][-1] == "lora"
    assert versions[0].name in ("few-shot", "zero-shot")
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.best == "lora"
    tried = {entry["name"]: entry["loss"] for entry in finished.report["strategies_tried"]}
    assert tried["lora"] < tried["zero-shot"]
    scores = {entry["name"]: entry["score"] for entry in finished.report["strategies_tried"]}
    assert finished.report["baseline"]["gate"] == versions[-1].metrics["baseline"] == scores["zero-shot"]
    assert finished.report["samples"][0].keys() >= {"asked", "truth", "base", "tuned"}
    assert finished.report["generation"]["perplexity"]["low"] < finished.report["generation"]["perplexity"]["high"]


def test_a_served_artifact_is_the_network_that_was_judged(writer, ask):
    (*_, version) = _versions(_run(ask(colours(), "lora", **FAST), writer))
    artifact = read_artifact(version.artifact_dir)
    (part,) = artifact.parts
    assert isinstance(part, LowRankWeights)
    assert len(part.pairs) == 7 * writer.blocks
    assert Prompt.of(artifact.manifest) == Prompt("lora", "Be brief.")
    assert of_parts(writer, artifact.parts).rank == 8


def test_examples_come_from_the_rows_and_answer_as_they_do(writer, ask):
    (version,) = _versions(_run(ask(colours(), "few-shot"), writer))
    artifact = read_artifact(version.artifact_dir)
    prompt = Prompt.of(artifact.manifest)
    assert artifact.parts == ()
    assert prompt.system == "Be brief."
    told = [row["messages"][1:] for row in colours()]
    assert prompt.examples
    assert all(list(example) in told for example in prompt.examples)


def test_the_base_itself_is_a_version(writer, ask):
    (version,) = _versions(_run(ask(colours(), "zero-shot"), writer))
    assert Prompt.of(read_artifact(version.artifact_dir).manifest) == Prompt("zero-shot", "Be brief.")


@pytest.mark.parametrize(("strategy", "blocks"), [("partial", {2}), ("full", {0, 1, 2})])
def test_blocks_of_its_own(writer, ask, strategy, blocks):
    (*_, version) = _versions(_run(ask(colours(), strategy, **FAST), writer))
    (part,) = read_artifact(version.artifact_dir).parts
    assert isinstance(part, BlockWeights)
    assert set(part.states) == blocks


def test_every_step_is_told(writer, ask):
    events = _run(ask(colours(), "lora", **FAST), writer)
    steps = [event.metrics for event in _steps(events)]
    assert [metrics["step"] for metrics in steps] == list(range(1, len(steps) + 1))
    held = [metrics["validation_loss"] for metrics in steps if "validation_loss" in metrics]
    assert held[-1] < held[0]
    curve = events[-1].curve
    assert [(point.step, point.train_loss) for point in curve] == [(step["step"], step["train_loss"]) for step in steps]
    assert [point.valid_loss for point in curve if point.valid_loss is not None] == held
    assert all(point.train_accuracy is not None and 0 <= point.train_accuracy <= 1 for point in curve)
    assert [point.valid_accuracy is None for point in curve] == [point.valid_loss is None for point in curve]
    percents = [event.percent for event in events if isinstance(event, Progress) and event.step == "refining"]
    assert all(before <= after for before, after in pairwise(percents))


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_same_bits(writer, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.Checkpoints, "is_due", lambda _: True)
    request = ask(colours(), "lora", **FAST)
    whole = _versions(_run(replace(request, checkpoint_dir=None), writer))[-1]
    expected = read_artifact(whole.artifact_dir).tensors
    seen: list[Progress] = []
    with pytest.raises(Stopped):
        seen.extend(_steps(training.train(request, writer, stop=lambda: len(seen) >= 7)))
    one_thread = replace(request, output_dir=tmp_path / "again")
    monkeypatch.setattr(writer, "threads", 1)
    events = _run(one_thread, writer)
    found = read_artifact(_versions(events)[-1].artifact_dir).tensors
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    steps = [event.metrics["step"] for event in _steps(events)]
    assert steps[0] == len(seen) + 1


def _pair(number):
    asked = [{"role": "user", "content": f"q{number}"}]
    outputs = {"preferred_output": f"yes {number}", "non_preferred_output": f"no {number}"}
    sides = {name: [{"role": "assistant", "content": text}] for name, text in outputs.items()}
    return {"input": {"messages": asked}, **sides}


def test_preferences_are_learned_from_pairs(writer, ask):
    events = _run(ask([_pair(number) for number in range(24)], "lora", **FAST), writer)
    finished = events[-1]
    assert finished.best == "dpo"
    assert finished.report["metric"] == "preference_accuracy"
    assert finished.report["score"] == 1.0
    assert finished.report["hyperparameters"]["beta"] == 0.1
    assert finished.curve[-1].train_accuracy == finished.curve[-1].valid_accuracy == 1.0


def _one_step(writer, base_margin):
    """Train one step on pairs of which the base is said to have so large a margin; return the step."""

    def row(text, number):
        asked = Conversation(json.dumps([{"role": "user", "content": f"q{number}"}]))
        return token_rows.encode(writer, asked, Answer(text), Prompt())

    pairs = [Pair(row("yes", number), row("no", number), base_margin) for number in range(4)]
    config = strategies.settle("lora", Hyperparameters(n_epochs=1, batch_size=4), rows=4, blocks=3, pairs=True)
    fitted = network.low_rank(writer, config.rank, seed=0)
    (step,) = training_loop.train(
        fitted, config, pairs, lambda: Measure(0.5, 0.5), seed=0, threads=1, stop=lambda: False
    )
    return step


def test_the_accuracy_of_pairs_is_that_of_what_was_gained_on_the_base(writer):
    assert [_one_step(writer, base).accuracy for base in (1_000.0, -1_000.0)] == [0.0, 1.0]
    nothing = RowScores(np.zeros(4), np.ones(4), np.zeros(4))
    margins_N, base_N = np.array([2.0, 3.0, 1.0, 0.5]), np.array([3.0, 4.0, -2.0, 0.5])
    found = Judgement(nothing, TextGeneration().tally(None, (margins_N > 0)[:, None]), margins_N)
    assert judging.reward_accuracy(found, base_N) == 0.25


def test_pairs_that_are_ordered_alike_are_compared_by_their_margins():
    def judgement(*margins):
        margins_N = np.array(margins)
        nothing = RowScores(np.zeros(4), np.ones(4), np.zeros(4))
        return Judgement(nothing, TextGeneration().tally(None, (margins_N > 0)[:, None]), margins_N)

    surer, less = judgement(2.0, 3.0, 2.5, 9.0), judgement(0.5, 1.0, 0.2, 8.0)
    assert judging.compare(surer, less, seed=0).probability > 0.9
    assert judging.compare(less, surer, seed=0).probability < 0.1
    # One more pair in order counts for more than any margin.
    assert judging.compare(less, judgement(9.0, 9.0, 9.0, -0.1), seed=0).gain == 0.25


def test_rows_beyond_the_context_are_refused_by_number_where_that_is_asked(writer, ask):
    rows = [*colours(8), chat("long", "z" * 600)]
    with pytest.raises(RowsTooLong, match="rows 9"):
        _run(ask(rows, "lora", long_rows="refuse"), writer)
    events = _run(ask(rows, "zero-shot"), writer)
    report = events[-1].report
    assert report["data"]["rows_cut"] == {"count": 1, "rows": [9]}
    (warning,) = [warning for warning in report["warnings"] if warning["code"] == "truncated"]
    assert "cut: 9." in warning["message"]
    assert any("512 in the longest row" in event.message for event in events if isinstance(event, Progress))


def test_a_base_that_only_reads_is_refused(ask, backbone):
    with pytest.raises(NotAWriter, match="minilm"):
        _run(ask(colours()), backbone)


def test_a_strategy_of_encoders_is_refused(writer, ask):
    with pytest.raises(UnsupportedStrategy, match="few-shot, lora"):
        _run(ask(colours(), "head"), writer)
