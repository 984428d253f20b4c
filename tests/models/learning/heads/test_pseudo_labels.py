"""Pseudo-labels: what neighbours say, which rows are taken, and that no teacher sees a held-out label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.learning import tasks
from models.learning.data.corpus import Corpus, read_training, read_unlabeled
from models.learning.data.folds import splits
from models.learning.heads import encoding, first_version, label_spreading
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.first_version import FirstVersion, HeadPrior
from models.learning.heads.pseudo_labels import Students, choose
from models.learning.report import ReportBuilder
from models.learning.run import Run


def test_neighbours_decide_where_a_head_is_unsure() -> None:
    generator = np.random.default_rng(0)
    centres_CF = np.eye(2, 16, dtype=np.float32)
    class_N = np.repeat([0, 1], 40)
    features_NF = centres_CF[class_N] + generator.normal(0, 0.1, (80, 16)).astype(np.float32)
    known_NK = np.full((80, 2), 0.5, dtype=np.float32)
    for row in (0, 40):  # one row of each class is known
        known_NK[row] = np.eye(2)[class_N[row]]
    graph_NN = label_spreading.neighbour_graph(features_NF, 10, lambda: None)
    assert abs(graph_NN - graph_NN.T).max() < 1e-6
    assert graph_NN.diagonal().max() == 0
    found_NK = label_spreading.spread(graph_NN, known_NK, 0.5)
    np.testing.assert_allclose(found_NK.sum(1), 1.0, atol=1e-5)
    assert (found_NK.argmax(1) == class_N).mean() > 0.95


def test_a_class_gives_no_more_rows_than_its_share() -> None:
    sure_UK = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.1, 0.9], [0.45, 0.55]], dtype=np.float32)
    even, rare = np.array([0.5, 0.5]), np.array([0.1, 0.9])
    assert choose(sure_UK, even, 0.0).tolist() == [0, 1, 2, 4, 5]
    assert choose(sure_UK, even, 0.75).tolist() == [0, 1, 4]
    assert choose(sure_UK, rare, 0.0).tolist() == [0, 4, 5]
    assert choose(sure_UK, even, 0.95).tolist() == []


@pytest.fixture
def measured(backbone: Any, few: Any, make_request: Any) -> tuple[EncodedRun, FirstVersion]:
    request = make_request(few)
    corpus, task, _ = read_training(request.training, tasks.find("text-classification"), request.hyperparameters.rare())
    steps = encoding.encode(Run(request, backbone, task, corpus, None, bool, ReportBuilder()))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            run: EncodedRun = end.value
            return run, first_version.measure(run, HeadPrior())


def test_no_held_out_label_reaches_its_own_teacher(measured: tuple[EncodedRun, FirstVersion], tickets: Any) -> None:
    run, first = measured
    names = list(run.training.features)
    texts = [text for text, _ in tickets[:60]]
    rows = run.backbone.encode_tokens(run.backbone.tokenize(texts), names)
    unlabeled = dict(zip(names, np.split(np.asarray(rows), len(names), axis=1), strict=True))
    train, held = splits(first.choice.fold_N)[0]
    changed = run.training.corpus.targets.copy()
    changed[held] = (changed[held] + 1) % run.outputs
    other = replace(run, training=replace(run.training, corpus=replace(run.training.corpus, targets=changed)))
    taught, again = (Students(each, first, unlabeled).teach(train) for each in (run, other))
    assert taught.taken == again.taken
    assert sum(taught.taken) > 0
    for one, two in zip(taught.weights, again.weights, strict=True):
        assert one.equal(two)


def test_rows_of_the_other_files_are_left_out(make_request: Any, tmp_path: Any) -> None:
    rows = [("one", "a"), ("two", "b"), ("three", "a"), ("four", "b")]
    request = make_request(rows, validation=[("five", "a"), ("six", "b")])
    task = tasks.find("text-classification")
    training, _, _ = read_training(request.training, task, request.hyperparameters.rare())
    validation, _, _ = read_training(
        replace(request.validation, path=_written(tmp_path, ["five", "six", "seven", "eight"])), task,
        request.hyperparameters.rare(),
    )  # fmt: skip
    source = replace(
        request.training,
        path=_written(tmp_path, ["ONE", "nine", " five ", "nine", "ten", "Nine"], labelled=False),
        columns={"text": "text"},
    )
    found: Corpus = read_unlabeled(source, training, validation)
    assert found.inputs == ["nine", "ten"]
    assert found.left_out == {"rows": 6, "in_training": 1, "in_validation": 1, "repeated": 2}


def _written(folder: Any, texts: list[str], *, labelled: bool = True) -> Any:
    path = folder / f"{len(texts)}-{labelled}.csv"
    head, label = ("text,label", ",{}") if labelled else ("text", "")
    lines = [text + label.format("ab"[number % 2]) for number, text in enumerate(texts)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return path
