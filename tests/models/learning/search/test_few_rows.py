"""`auto` on few rows of one label each: they are contrasted, then low-rank matrices tried; the better is published."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
import pytest

from models.artifacts.folder import read_artifact
from models.backbones.text import TextBackbone
from models.learning.contract.events import Finished, TrainEvent, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.finetuning.averaging import WeightAverage
from models.learning.heads import first_version
from models.learning.search import policy, trials
from models.learning.search.candidates import Candidate
from models.learning.search.held_out import Trial
from models.learning.search.trials import SearchContext
from models.learning.training import train
from tests.models.learning import inference

from .answers import trial

WORDS = ("refund", "invoice", "parcel")
FILLERS = ("the", "order", "please", "my", "want", "today", "about", "from", "account", "thanks", "again", "not", "for")


def rows(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Three words of no meaning around the one that says the label."""
    generator = np.random.default_rng(seed)
    labels = [WORDS[row % len(WORDS)] for row in range(count)]
    return [(" ".join(generator.permutation([*generator.choice(FILLERS, 3), label])), label) for label in labels]


def left_at(finished: Finished) -> dict[str, str]:
    return {each["name"]: each["left_at"] for each in finished.report["refinement"]["candidates"]}


def test_low_rank_matrices_are_tried_where_contrasting_is_no_better(
    small_backbone: TextBackbone, make_request: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_better(
        context: SearchContext, candidate: Candidate, average: WeightAverage
    ) -> Generator[TrainEvent, None, Trial]:
        yield context.budget.progress(0.0, candidate.name)
        return trial(wrong=50, head=50)

    monkeypatch.setattr(trials, "run_trials", no_better)
    asked = {"lexical": False, "features": "last", "regularization": 1.0}
    request = make_request(rows(48, seed=0), strategy="auto", hyperparameters=asked)
    finished = list(train(request, small_backbone, stop=bool))[-1]
    assert isinstance(finished, Finished)
    assert left_at(finished) == {"contrastive": "trial", "lora": "trial"}
    assert finished.best == "head"


@pytest.mark.slow
def test_contrasted_rows_learn_on_the_default_features_whatever_the_head_chose(
    small_backbone: TextBackbone, make_request: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = small_backbone.feature_sets()
    monkeypatch.setattr(first_version, "feature_sets", lambda *_: {"last": sets["last"]})
    monkeypatch.setattr(policy, "improves", lambda _: True)
    asked = {"lexical": False, "n_epochs": 1}
    request = make_request(rows(48, seed=0), strategy="auto", hyperparameters=asked)
    ready = {
        event.name: event for event in train(request, small_backbone, stop=bool) if isinstance(event, VersionReady)
    }
    features = {name: read_artifact(event.artifact_dir).manifest.features for name, event in ready.items()}
    assert features == {"head": sets["last"], "partial": sets["last-max"]}
    assert ready["partial"].report["hyperparameters"]["features"] == "last-max"


@pytest.mark.slow
def test_what_few_rows_end_with_is_better_than_the_head(
    small_backbone: TextBackbone, make_request: Callable[..., TrainRequest]
) -> None:
    # A base of random weights has more to learn than a pretrained one.
    asked = {"learning_rate": 1e-3, "lexical": False, "features": "last", "n_epochs": 8}
    request = make_request(rows(48, seed=0), strategy="auto", hyperparameters=asked)
    events = list(train(request, small_backbone, stop=bool))
    finished = events[-1]
    assert isinstance(finished, Finished)
    # Which of the two depends on how the processor rounds.
    assert left_at(finished) in (
        {"contrastive": "trained on all rows", "lora": "not entered"},
        {"contrastive": "trial", "lora": "trained on all rows"},
    )
    ready = {event.name: event for event in events if isinstance(event, VersionReady)}
    unseen = rows(200, seed=1)
    right = {}
    for name in ("head", finished.best):
        answers = inference.predict(
            read_artifact(ready[name].artifact_dir), small_backbone, [text for text, _ in unseen]
        )
        right[name] = np.mean([answer["label"] == label for answer, (_, label) in zip(answers, unseen, strict=True)])
    assert finished.best in ("partial", "lora")
    assert right[finished.best] >= right["head"] + 0.02
