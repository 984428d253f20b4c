"""`auto` in full: candidates race, the winner is tried, and the next job needs less of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.artifacts.folder import read_artifact
from models.backbones import loading
from models.backbones.backbone import Backbone
from models.datasets.examples import Media
from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.contract.outcomes import Outcome
from models.learning.contract.request import Hyperparameters, TrainRequest
from models.learning.training import train
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.learning import inference
from tests.models.learning.test_media import source

LABELS = ("narrow", "wide")


def stripes(label: str, seed: int) -> bytes:
    """Stripes at any angle under noise: what a network of random weights sees only after it was trained."""
    generator = np.random.default_rng((seed, label == "narrow"))
    angle = generator.uniform(0, np.pi)
    y_HW, x_HW = np.indices((40, 40))
    ramp_HW = (x_HW * np.cos(angle) + y_HW * np.sin(angle)) * (0.9 if label == "narrow" else 0.7)
    ramp_HW = ramp_HW + generator.uniform(0, 9)
    noisy_HWC = generator.normal(128, 40, (40, 40, 3)) + 50 * np.sin(ramp_HW)[:, :, None]
    buffer = io.BytesIO()
    Image.fromarray(noisy_HWC.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Backbone:
    entry = media_checkpoints.write(tmp_path_factory.mktemp("eyes"), "vit")
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


def run(folder: Path, eyes: Backbone, *, seed: int, rows: int, priors: Sequence[Outcome] = (), **values: object):
    """The end of a job on pictures of its own, and how far it said it was."""
    folder.mkdir()
    members = {f"{label}/{n}.png": stripes(label, 1_000 * seed + n) for label in LABELS for n in range(rows // 2)}
    request = TrainRequest(
        source(folder / "stripes.zip", members), "image-classification", folder / "out", priors=tuple(priors),
        **values,  # type: ignore[arg-type]
    )  # fmt: skip
    events = list(train(request, eyes, stop=bool))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return finished, [event.percent for event in events if isinstance(event, Progress)]


def accuracy(folder: Path, finished: Finished, eyes: Backbone) -> float:
    """Share of other pictures that its best model gets right."""
    unseen = [(label, Media("", stripes(label, 900_000 + n))) for label in LABELS for n in range(150)]
    artifact = read_artifact(folder / "out" / finished.best)
    answers = inference.predict(artifact, eyes, [media for _, media in unseen])
    return float(np.mean([answer["label"] == label for answer, (label, _) in zip(answers, unseen, strict=True)]))


def left_at(finished: Finished) -> dict[str, str]:
    return {each["name"]: each["left_at"] for each in finished.report["refinement"]["candidates"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_next_job_reaches_the_same_at_half_the_cost(tmp_path: Path, eyes: Backbone) -> None:
    # A penalty that leaves the head room for improvement: what the search finds leaves little.
    strong = Hyperparameters(regularization=0.0037)
    first, percents = run(tmp_path / "first", eyes, seed=1, rows=480, hyperparameters=strong)
    assert percents == sorted(percents)
    assert set(left_at(first)) == {"partial", "partial-1", "lora", "full"}
    # A second rung would cost more than half of what follows.
    assert sorted(left_at(first).values()) == ["rung 1", "rung 1", "rung 1", "trained on all rows"]
    assert first.report["refinement"]["cost"]["of_trying_every_strategy"] <= 0.3
    outcomes = {outcome.candidate: outcome for outcome in first.outcomes}
    assert set(outcomes) == {"head", "partial", "partial-1", "lora", "full"}

    # Four jobs in the same situation had the same outcomes.
    alone, _ = run(tmp_path / "alone", eyes, seed=2, rows=480, hyperparameters=strong)
    informed, _ = run(tmp_path / "informed", eyes, seed=2, rows=480, priors=first.outcomes * 4, hyperparameters=strong)
    assert informed.report["refinement"]["earlier_jobs"] > 2
    assert list(left_at(informed).values()).count("not entered") == 3
    costs = [each.report["refinement"]["cost"]["tokens"] for each in (informed, alone)]
    assert costs[0] <= 0.5 * costs[1]
    assert accuracy(tmp_path / "informed", informed, eyes) >= accuracy(tmp_path / "alone", alone, eyes) - 0.02


@pytest.mark.slow
def test_outcomes_of_a_customers_own_numbers_are_not_kept(tmp_path: Path, eyes: Backbone) -> None:
    asked = Hyperparameters(n_epochs=1, features="mean.3", regularization=0.5)
    finished, _ = run(tmp_path / "own", eyes, seed=1, rows=60, strategy="partial", hyperparameters=asked)
    (head,) = finished.outcomes
    assert (head.candidate, head.features, head.regularization) == ("head", "", 0.0)
    assert finished.report["refinement"]["cost"]["tokens"] > 0
    assert {"name", "score", "seconds"} <= finished.report["strategies_tried"][-1].keys()


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "fits", "most"), [("partial", 5, 7), ("lora", 1, 1)])
def test_what_is_published_is_the_mean_of_the_final_fits_and_those_of_the_trial(
    tmp_path: Path, eyes: Backbone, strategy: str, fits: int, most: int
) -> None:
    members = {f"{label}/{n}.png": stripes(label, n) for label in LABELS for n in range(30)}
    request = TrainRequest(
        source(tmp_path / "stripes.zip", members),
        "image-classification",
        tmp_path / "out",
        strategy=strategy,
        hyperparameters=Hyperparameters(n_epochs=1),
    )
    *_, ready = [event for event in train(request, eyes, stop=bool) if isinstance(event, VersionReady)]
    assert ready.name == strategy
    assert fits <= ready.report["hyperparameters"]["averaged_fits"] <= most


@pytest.mark.slow
def test_what_does_not_fit_the_budget_is_given_up(tmp_path: Path, eyes: Backbone) -> None:
    # A penalty that leaves the head room for improvement: what the search finds leaves little.
    strong = Hyperparameters(regularization=0.0037)
    finished, _ = run(tmp_path / "hurried", eyes, seed=1, rows=480, refine_budget_s=0.05, hyperparameters=strong)
    assert finished.best == "head"
    assert left_at(finished) == dict.fromkeys(("partial", "partial-1", "lora", "full"), "budget")
    assert finished.report["strategies_tried"][-1]["abandoned"]
