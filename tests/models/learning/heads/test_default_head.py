"""Where the search for a head takes long, a default head is published before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.artifacts.folder import read_artifact
from models.backbones.text import TextBackbone
from models.learning.contract.events import Progress, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.training import train
from tests.models.learning import inference

_LABELS, _ROWS = 200, 1_000  # as many rows times labels as it takes
_WORDS = ("red", "blue", "green", "old", "new", "left", "right", "late", "early", "small")


def _row(number: int) -> tuple[str, str]:
    label = number % _LABELS
    a, b, c = label % 10, label // 10 % 10, label // 100
    return f"{_WORDS[a]} {_WORDS[b]} {_WORDS[c]} {_WORDS[a]} {number // _LABELS}", f"label {label}"


def test_a_default_head_comes_before_the_searched_one(
    small_backbone: TextBackbone, make_request: Callable[..., TrainRequest]
) -> None:
    rows = [_row(number) for number in range(_ROWS)]
    hyperparameters = {"features": "last", "lexical": False, "regularization": 0.1}
    request = make_request(rows, strategy="head", hyperparameters=hyperparameters)
    events = list(train(request, small_backbone, stop=lambda: False))
    default, searched = (event for event in events if isinstance(event, VersionReady))

    assert (default.name, default.improves, searched.name) == ("head-default", True, "head")
    assert default.report["measured_rows"] == _ROWS // 5
    assert default.report["score"] > default.report["baseline"]["majority"]
    assert [tried["name"] for tried in searched.report["strategies_tried"]] == ["head-default", "head", "zero-shot"]
    before = events[: events.index(default)]
    assert [event.step for event in before if isinstance(event, Progress)][-1] == "fitting"
    # With everything named by the customer both are the same fit to all rows.
    answers = [
        inference.logits(read_artifact(each.artifact_dir), small_backbone, [text for text, _ in rows[:20]])
        for each in (default, searched)
    ]
    np.testing.assert_allclose(*answers, atol=1e-4)
