from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from models.learning.contract.errors import Stopped
from models.learning.evaluation import calibration
from models.learning.heads import linear
from models.learning.tasks.link_functions import SIGMOID, SOFTMAX, LinkFunction


def _data(rows: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, width))
    labels = np.arange(rows) % classes
    features = (centres[labels] + 2 * generator.normal(size=(rows, width))) * generator.uniform(1, 5, width) + 3
    return features.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize(("rows", "width"), [(300, 20), (60, 200)])
def test_heads_are_those_of_scikit_learn(rows: int, width: int) -> None:
    features, labels = _data(rows, width, 4)
    standard = (features - features.mean(0)) / features.std(0) / width**0.5
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=5_000).fit(standard, labels).predict_proba(standard)
    head = linear.fit_head(features, torch.from_numpy(labels), SOFTMAX, outputs=4, inverse_penalty=10.0, tolerance=1e-7)
    ours = calibration.probabilities(head.logits(features), SOFTMAX)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_sigmoid_heads_are_one_logistic_regression_per_label() -> None:
    features, labels = _data(200, 10, 3)
    targets = np.eye(3, dtype=np.float32)[labels]
    targets[:50, 1] = 1.0
    head = linear.fit_head(features, torch.from_numpy(targets), SIGMOID, outputs=3, inverse_penalty=5.0, tolerance=1e-7)
    standard = (features - features.mean(0)) / features.std(0) / 10**0.5
    for label in range(3):
        theirs = LogisticRegression(C=5.0, tol=1e-8, max_iter=5_000).fit(standard, targets[:, label])
        ours = calibration.probabilities(head.logits(features), SIGMOID)[:, label]
        np.testing.assert_allclose(ours, theirs.predict_proba(standard)[:, 1], atol=2e-3)


def test_features_that_hardly_vary_stay_quiet() -> None:
    features, labels = _data(100, 10, 2)
    features[:, 3] = 1.0
    features[:, 4] = 1.0 + 1e-7 * np.arange(100)
    head = linear.fit_head(features, torch.from_numpy(labels), SOFTMAX, outputs=2, inverse_penalty=10.0)
    assert np.isfinite(head.weight_KF).all()
    assert np.abs(head.weight_KF[:, 3:5]).max() < 1e-3


def test_folding_is_the_inverse_of_unfolding() -> None:
    features, labels = _data(200, 12, 3)
    design = linear.prepare(features)
    weights = linear.fit(
        design.rotated_NR,
        torch.from_numpy(labels),
        linear.Objective(SOFTMAX, outputs=3, inverse_penalty=3.0),
        variance_R=design.variance_R,
    )
    head = design.unfold(weights)
    torch.testing.assert_close(design.fold(head), weights, atol=1e-3, rtol=1e-3)
    rotated = design.rotated_NR @ weights[:, :-1].T + weights[:, -1]
    np.testing.assert_allclose(head.logits(features), rotated.numpy(), atol=1e-3)


@pytest.mark.parametrize("link", [SOFTMAX, SIGMOID])
def test_temperature_mends_overconfidence(link: LinkFunction) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2_000, 3)).astype(np.float32)
    probabilities = calibration.probabilities(logits, link)
    if link is SOFTMAX:
        targets = np.array([generator.choice(3, p=row / row.sum()) for row in probabilities.astype(np.float64)])
    else:
        targets = (generator.uniform(size=probabilities.shape) < probabilities).astype(np.float32)
    assert calibration.fit_temperature(4 * logits, targets, link) == pytest.approx(4.0, rel=0.15)


def test_a_fit_asks_whether_to_stop_at_every_pass_over_its_rows() -> None:
    features, labels = _data(200, 12, 3)
    asked = []

    def check_stop() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        linear.fit_head(
            features, torch.from_numpy(labels), SOFTMAX, outputs=3, inverse_penalty=100.0, check_stop=check_stop
        )

    assert len(asked) == 3
