from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifacts.folder import MANIFEST, WEIGHTS, read_artifact
from models.backbones.text import TextBackbone
from models.datasets.tasks import TASKS
from models.learning.contract import effects, events
from models.learning.contract.errors import InvalidHyperparameters, Stopped, TooFewRows, UnknownLabel
from models.learning.contract.events import Finished, Progress, TrainEvent, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train
from tests.models.learning import inference

Rows = list[tuple[str, str]]
RequestFactory = Callable[..., TrainRequest]
SAMPLES = Path(__file__).parents[3] / "deploy" / "cli" / "samples"
FAST_LORA = {"n_epochs": 2, "lora_rank": 2, "batch_size": 16}


def _run(request: TrainRequest, backbone: TextBackbone) -> list[TrainEvent]:
    return list(train(request, backbone, stop=lambda: False))


def _candidates(found: list[TrainEvent]) -> list[VersionReady]:
    return [event for event in found if isinstance(event, VersionReady)]


def _accuracy(candidate: VersionReady, backbone: TextBackbone, rows: Rows) -> float:
    artifact = read_artifact(candidate.artifact_dir)
    predictions = inference.predict(artifact, backbone, [text for text, _ in rows])
    return float(np.mean([found["label"] == label for found, (_, label) in zip(predictions, rows, strict=True)]))


def test_head_learns_the_sample(backbone: TextBackbone, tickets: Rows, make_request: RequestFactory) -> None:
    with (SAMPLES / "tickets_test.csv").open(newline="", encoding="utf-8") as file:
        unseen = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    found = _run(make_request(tickets), backbone)
    (candidate,) = _candidates(found)
    assert isinstance(found[-1], Finished)
    assert found[-1].best == candidate.name == "head"
    assert candidate.improves
    assert _accuracy(candidate, backbone, unseen) >= 0.85
    report = candidate.report
    assert report["score_low"] <= report["score"] <= report["score_high"]
    assert report["score"] > report["baseline"]["gate"] > report["baseline"]["majority"]
    assert report["data"]["rows"] == len(tickets)
    assert sum(row["support"] for row in report["per_class"]) == len(tickets)
    assert report["calibration"]["ece"] < 0.1
    assert report["situation"]["similarity"] == "similar"
    assert report["hyperparameters"]["regularization"] > 0
    json.dumps(report, allow_nan=False)


def test_progress_only_grows_and_events_cross_processes(
    small_backbone: TextBackbone, few: Rows, make_request: RequestFactory
) -> None:
    found = _run(make_request(few), small_backbone)
    percents = [event.percent for event in found if isinstance(event, Progress)]
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert percents[-1] <= 100
    for event in found:
        assert events.from_dict(json.loads(json.dumps(events.to_dict(event)))) == event


def test_same_seed_same_bytes(small_backbone: TextBackbone, few: Rows, make_request: RequestFactory) -> None:
    # A validation file makes it one trial instead of four.
    request = make_request(
        few[::2], validation=few[1::4], strategy="lora", hyperparameters={**FAST_LORA, "n_epochs": 1}
    )
    again = replace(request, output_dir=request.output_dir.with_name("again"))
    other = replace(request, output_dir=request.output_dir.with_name("other"), seed=8)
    events = _run(request, small_backbone)
    assert isinstance(events[-1], Finished)
    (epoch,) = events[-1].curve  # with a loss, and the score of the trial's held-out rows
    assert (epoch.step, epoch.train_accuracy) == (1, None)
    assert epoch.valid_loss is not None
    first, second, third = map(_candidates, (events, *(_run(each, small_backbone) for each in (again, other))))
    assert [candidate.name for candidate in first] == ["head", "lora"]
    for one, two in zip(first, second, strict=True):
        assert (one.artifact_dir / WEIGHTS).read_bytes() == (two.artifact_dir / WEIGHTS).read_bytes()
        assert (one.artifact_dir / MANIFEST).read_bytes() == (two.artifact_dir / MANIFEST).read_bytes()
    changed = read_artifact(third[1].artifact_dir).tensors["lora.0.output.dense.A"]
    assert not torch.equal(changed, read_artifact(first[1].artifact_dir).tensors["lora.0.output.dense.A"])


def test_zero_shot_needs_no_training(backbone: TextBackbone, tickets: Rows, make_request: RequestFactory) -> None:
    (candidate,) = _candidates(_run(make_request(tickets, strategy="zero-shot"), backbone))
    assert candidate.name == "zero-shot"
    assert _accuracy(candidate, backbone, tickets[::4]) > 0.6


def test_validation_file_is_what_is_measured(
    small_backbone: TextBackbone, tickets: Rows, make_request: RequestFactory
) -> None:
    request = make_request(tickets[::2], validation=tickets[1::8])
    (candidate,) = _candidates(_run(request, small_backbone))
    assert candidate.report["measured_on"] == "validation_file"
    assert candidate.report["measured_rows"] == len(tickets[1::8])
    accuracy = _accuracy(candidate, small_backbone, tickets[1::8])
    assert candidate.metrics["score"] == pytest.approx(accuracy)


def test_unknown_label_in_validation(small_backbone: TextBackbone, few: Rows, make_request: RequestFactory) -> None:
    request = make_request(few, validation=[few[0], ("a text", "no_such_label")])
    with pytest.raises(UnknownLabel, match="Row 2 of the validation file has the label 'no_such_label'"):
        _run(request, small_backbone)


def test_too_little_to_learn_from(small_backbone: TextBackbone, make_request: RequestFactory) -> None:
    with pytest.raises(TooFewRows):
        _run(make_request([("a", "x"), ("b", "y")]), small_backbone)


@pytest.mark.parametrize("features", ["median.6", "mean.7", "mean", "first"])
def test_unknown_features(small_backbone: TextBackbone, few: Rows, make_request: RequestFactory, features: str) -> None:
    with pytest.raises(InvalidHyperparameters, match="features"):
        _run(make_request(few, hyperparameters={"features": features}), small_backbone)


def test_asked_features_and_penalty_are_used(
    small_backbone: TextBackbone, few: Rows, make_request: RequestFactory
) -> None:
    asked = {"features": "mean.3, cls.6", "regularization": 0.5}
    (candidate,) = _candidates(_run(make_request(few, hyperparameters=asked), small_backbone))
    artifact = read_artifact(candidate.artifact_dir)
    assert artifact.manifest.features == ("mean.3", "cls.6")
    shape = (len(artifact.manifest.labels), 2 * small_backbone.width)
    assert artifact.tensors["head.weight"].shape == shape
    assert candidate.report["hyperparameters"]["regularization"] == pytest.approx(0.5)


def test_what_has_no_effect_is_said_and_not_echoed(
    small_backbone: TextBackbone, few: Rows, make_request: RequestFactory
) -> None:
    asked = {"n_epochs": 9, "lora_rank": 4, "regularization": 0.5, "min_rows_per_label": 3}
    *_, finished = _run(make_request(few, hyperparameters=asked), small_backbone)
    assert isinstance(finished, Finished)
    used = finished.report["hyperparameters"]
    assert {name: used[name] for name in asked} == {**asked, "n_epochs": None, "lora_rank": None}
    assert (used["batch_size"], used["rare_labels"]) == (None, "drop")
    (warning,) = finished.report["warnings"]
    assert (warning["code"], warning["hyperparameters"]) == ("no_effect", ["n_epochs", "lora_rank"])
    assert "They count with lora." in warning["message"]


@pytest.mark.parametrize(
    ("strategy", "asked", "named"),
    [
        ("zero-shot", {"regularization": 1.0}, ["regularization"]),
        ("head", {"regularization": 1.0, "rare_labels": "merge", "n_epochs": "auto"}, []),
        ("lora", {"n_epochs": 2, "trainable_blocks": 2}, ["trainable_blocks"]),
        ("partial", {"trainable_blocks": 2, "learning_rate": 1e-4}, []),
        ("full", {"lora_rank": 8, "lexical": True}, ["lora_rank"]),
        ("of-another-learner", {"n_epochs": 2}, []),
    ],
)
def test_each_strategy_has_its_hyperparameters(strategy: str, asked: dict[str, object], named: list[str]) -> None:
    found = effects.warnings(strategy, asked)
    assert [name for warning in found for name in warning["hyperparameters"]] == named


@pytest.mark.parametrize(
    ("task", "strategy", "asked", "named", "where"),
    [
        ("text-classification", "full", {"method": "dpo", "beta": 0.3}, ["method", "beta"], ""),
        ("text-classification", "head", {"beta": 0.3, "n_epochs": 2}, ["n_epochs", "beta"], ""),
        ("text-classification", "head", {"n_epochs": 2}, ["n_epochs"], " It counts with lora or partial or full or"),
        ("text-generation", "dpo", {"method": "dpo", "beta": 0.3, "lora_rank": 4}, [], ""),
        ("text-generation", "full", {"regularization": 1.0, "beta": 0.3}, ["regularization"], ""),
        ("text-generation", "few-shot", {"beta": 0.3}, ["beta"], " It counts with lora or partial or full."),
        ("object-detection", "full", {"beta": 0.3}, ["beta"], ""),
        ("object-detection", "full", {"lexical": True, "min_rows_per_label": 3}, ["lexical"], ""),
        ("text-generation", "lora", {"long_rows": "refuse"}, [], ""),
    ],
)
def test_each_kind_of_task_has_hyperparameters_of_its_own(
    task: str, strategy: str, asked: dict[str, object], named: list[str], where: str
) -> None:
    found = effects.warnings(strategy, asked, task)
    assert [name for warning in found for name in warning["hyperparameters"]] == named
    if found:
        _, _, counts = found[0]["message"].partition(f"no effect on a version by '{strategy}'.")
        assert counts.startswith(where) if where else counts == ""


@pytest.mark.parametrize(
    ("task", "asked", "named"),
    [
        ("text-classification", {"lexical": True, "rare_labels": "merge", "min_rows_per_label": 5}, []),
        ("text-classification", {"long_rows": "refuse"}, ["long_rows"]),
        ("multi-label-classification", {"lexical": True, "min_rows_per_label": 5}, []),
        ("text-pair-classification", {"lexical": True, "min_rows_per_label": 5}, ["lexical"]),
        ("image-classification", {"lexical": True, "rare_labels": "merge"}, ["lexical"]),
        ("audio-classification", {"lexical": False}, ["lexical"]),
        ("text-regression", {"lexical": True, "min_rows_per_label": 50}, ["lexical", "min_rows_per_label"]),
        (
            "token-classification",
            {"min_rows_per_label": 5, "rare_labels": "merge"},
            ["min_rows_per_label", "rare_labels"],
        ),
    ],
)
def test_what_a_tasks_rows_have_no_use_for_has_no_effect_on_it(
    task: str, asked: dict[str, object], named: list[str]
) -> None:
    found = effects.warnings("head", asked, task)
    assert [name for warning in found for name in warning["hyperparameters"]] == named
    assert [warning["message"] for warning in found] == (
        [f"{' and '.join(named)} {'has' if len(named) == 1 else 'have'} no effect on {task}."] if named else []
    )
    assert set(named) <= set(effects.without_effect("head", task))


def test_every_task_says_what_its_rows_have_no_use_for() -> None:
    assert all({"long_rows", "min_rows_per_label"} & set(effects.without_effect("full", task)) for task in TASKS)


def test_what_has_no_effect_on_the_task_is_echoed_as_null(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path
) -> None:
    path = tmp_path / "values.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n} of 12", "value": n}) + "\n" for n in range(12)), "utf-8")
    source = DatasetSource(path, "jsonl", {"text": "text", "value": "value"})
    asked = {"lexical": True, "min_rows_per_label": 50, "regularization": 0.5}
    request = replace(make_request([], hyperparameters=asked), training=source, task="text-regression")
    (candidate,) = _candidates(_run(request, small_backbone))
    echoed = candidate.report["hyperparameters"]
    assert [echoed[name] for name in ("lexical", "min_rows_per_label", "rare_labels", "long_rows")] == [None] * 4
    assert echoed["regularization"] == 0.5
    assert [warning["hyperparameters"] for warning in candidate.report["warnings"]] == [
        ["lexical", "min_rows_per_label"]
    ]


def test_stops_at_every_stage(small_backbone: TextBackbone, few: Rows, make_request: RequestFactory) -> None:
    request = make_request(few, strategy="lora", hyperparameters=FAST_LORA, feature_cache_dir=None)
    for step in ("encoding", "fitting", "refining"):
        seen: list[str] = []

        def run_until(step: str = step, seen: list[str] = seen) -> None:
            for event in train(request, small_backbone, stop=lambda: step in seen):
                if isinstance(event, Progress):
                    seen.append(event.step)

        with pytest.raises(Stopped):
            run_until()
        assert step in seen
    assert torch.get_num_threads() == 1


def test_several_labels_per_row(
    backbone: TextBackbone, tickets: Rows, make_request: RequestFactory, tmp_path: Path
) -> None:
    by_label: dict[str, list[str]] = {}
    for text, label in tickets:
        by_label.setdefault(label, []).append(text)
    labels = sorted(by_label)[:4]
    rows = []
    for index in range(40):
        first, second = labels[index % 4], labels[(index // 4 + index) % 4]
        texts = [by_label[first][index % 45]] + ([by_label[second][-1 - index % 45]] if second != first else [])
        rows.append({"text": " ".join(texts), "labels": sorted({first, second})})
    rows += [{"text": text, "labels": []} for text in by_label[sorted(by_label)[5]][:10]]
    path = tmp_path / "several.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    source = DatasetSource(path, "jsonl", {"text": "text", "labels": "labels"})
    request = replace(make_request(tickets), training=source, task="multi-label-classification")
    (candidate,) = _candidates(_run(request, backbone))
    assert candidate.report["metric"] == "micro_f1"
    assert candidate.report["score"] > 0.7
    assert candidate.report["confusion"] is None
    artifact = read_artifact(candidate.artifact_dir)
    assert artifact.manifest.thresholds is not None
    assert len(artifact.manifest.thresholds) == 4
    (prediction,) = inference.predict(artifact, backbone, [rows[1]["text"]], top_k=2)
    assert set(prediction["scores"]) == set(labels)
    assert prediction["top"][0]["score"] >= prediction["top"][1]["score"]


class TestFeatureCache:
    def test_second_run_reads_it(
        self, small_backbone: TextBackbone, few: Rows, make_request: RequestFactory, tmp_path: Path
    ) -> None:
        request = make_request(few, feature_cache_dir=tmp_path / "cache")
        first = _candidates(_run(request, small_backbone))[0]
        (cached,) = (tmp_path / "cache").iterdir()
        again = replace(request, output_dir=tmp_path / "again")
        second = _candidates(_run(again, small_backbone))[0]
        assert second.report["score"] == first.report["score"]
        assert (second.artifact_dir / WEIGHTS).read_bytes() == (first.artifact_dir / WEIGHTS).read_bytes()

        content = bytearray(cached.read_bytes())
        content[-7] ^= 64  # a flipped bit in a number: it parses, the hash does not match
        cached.write_bytes(content)
        third = _candidates(_run(replace(request, output_dir=tmp_path / "third"), small_backbone))[0]
        assert (third.artifact_dir / WEIGHTS).read_bytes() == (first.artifact_dir / WEIGHTS).read_bytes()
        assert cached.read_bytes() != content  # computed and written anew

    def test_truncated_cache_is_computed_anew(
        self, small_backbone: TextBackbone, few: Rows, make_request: RequestFactory, tmp_path: Path
    ) -> None:
        request = make_request(few, feature_cache_dir=tmp_path / "cache")
        _run(request, small_backbone)
        (cached,) = (tmp_path / "cache").iterdir()
        whole = cached.read_bytes()
        cached.write_bytes(whole[: len(whole) // 2])
        _run(replace(request, output_dir=tmp_path / "again"), small_backbone)
        assert cached.read_bytes() == whole


@pytest.mark.parametrize(
    "strategy",
    ["lora", "partial", "full", "scratch"],
)
def test_every_strategy_makes_a_servable_candidate(
    small_backbone: TextBackbone, few: Rows, make_request: RequestFactory, strategy: str
) -> None:
    asked = {"n_epochs": 1, "batch_size": 16, "lora_rank": 2, "trainable_blocks": 1}
    request = make_request(few[::2], strategy=strategy, hyperparameters=asked, validation=few[1::4])
    head, refined = _candidates(_run(request, small_backbone))
    assert refined.name == strategy
    artifact = read_artifact(refined.artifact_dir)
    names = {name.split(".")[0] for name in artifact.tensors}
    expected = {"lora": {"head", "lora"}, "partial": {"head", "block"}}.get(strategy, {"head", "block", "embeddings"})
    assert names == expected
    if strategy == "partial":
        assert {name.split(".")[1] for name in artifact.tensors if name.startswith("block")} == {"5"}
    # What is on disk answers like what was measured.
    accuracy = _accuracy(refined, small_backbone, few[1::4])
    assert refined.metrics["score"] == pytest.approx(accuracy, abs=0.13)
    assert refined.report["hyperparameters"]["learning_rate"] > 0
    tried = {entry["name"]: entry for entry in refined.report["strategies_tried"]}
    assert {"head", "zero-shot", strategy} <= set(tried)
    if refined.improves:  # by its answers, or of a handful by a loss that is clearly less
        shown = tried[strategy]
        relieved = shown["head_log_loss"] - shown["log_loss"]
        assert shown["gain"] > 0 or relieved > 1.6 * shown["log_loss_noise"]
    assert head.improves


def test_auto_leaves_a_solved_task_alone(backbone: TextBackbone, tickets: Rows, make_request: RequestFactory) -> None:
    found = _run(make_request(tickets, strategy="auto"), backbone)
    assert [candidate.name for candidate in _candidates(found)] == ["head"]
    assert isinstance(found[-1], Finished)
    assert found[-1].report["refinement"]["strategy"] is None
