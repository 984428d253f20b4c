"""Frames of films: the score of held-out rows is that of films to come, not of frames whose neighbours were learned."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.artifacts.folder import read_artifact
from models.backbones import loading, registry
from models.backbones.backbone import Backbone
from models.datasets.examples import Media
from models.datasets.validation import Limits, inspect
from models.learning.contract.events import Finished, Progress
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data import features
from models.learning.data.corpus import Corpus, read_training
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import selection
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.selection import PenaltyStart
from models.learning.tasks import encoder_task, find
from models.learning.training import train
from models.settings import Settings
from tests.device import DEVICE
from tests.models.datasets.media_files import archive
from tests.models.learning import inference

FILMS, FRAMES = 20, 6
LABELS = ("indoors", "outdoors")


def frame(film: int, number: int) -> bytes:
    """One of a film's frames as PNG: the same drawing, a few pixels aside and a little darker.

    Films outdoors are greener, a little, so that a model which has never seen a film is right more often than not.
    """
    generator = np.random.default_rng(1_000 + film)
    ground = generator.integers(60, 190, 3)
    ground[1] += 22 if label(film) == "outdoors" else -22
    drawn = Image.new("RGB", (120, 120), tuple(int(each) for each in ground))
    pen = ImageDraw.Draw(drawn)
    for _ in range(9):
        left, top = generator.integers(0, 90, 2)
        width, height = generator.integers(12, 60, 2)
        shape = pen.ellipse if generator.random() < 0.5 else pen.rectangle
        shape((left, top, left + width, top + height), tuple(int(each) for each in generator.integers(0, 255, 3)))
    moved = np.random.default_rng((film, number))
    left, top = (int(each) for each in moved.integers(9, 14, 2))
    cut_HW3 = np.asarray(drawn.crop((left, top, left + 96, top + 96))) * moved.uniform(0.94, 1.0)
    buffer = io.BytesIO()
    Image.fromarray(cut_HW3.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def label(film: int) -> str:
    return LABELS[film % 2]


def source(path: Path, films: range, frames: int) -> DatasetSource:
    members = {f"{label(film)}/{film}-{n}.png": frame(film, n) for film in films for n in range(frames)}
    path.write_bytes(archive(members))
    found = inspect(path, filename=path.name, limits=Limits())
    return DatasetSource(path, found.format, found.columns)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """The built-in base: a film is what a base that knows the world takes for one."""
    entry = registry.mobilenet_v2(Settings(data_dir=tmp_path_factory.mktemp("data")))
    return loading.load(entry, device=DEVICE, precision="fp32", threads=1)


@pytest.mark.slow
def test_the_score_is_that_of_films_to_come(tmp_path: Path, base: Backbone) -> None:
    request = TrainRequest(
        training=source(tmp_path / "films.zip", range(FILMS), FRAMES), task="image-classification",
        output_dir=tmp_path / "out", strategy="head", feature_cache_dir=tmp_path / "cache",
    )  # fmt: skip
    events = list(train(request, base, stop=lambda: False))
    finished = events[-1]
    assert isinstance(finished, Finished)
    found = finished.report["data"]["groups"]
    assert found["similar"]["groups"] == FILMS
    assert found["similar"]["rows"] == FILMS * FRAMES
    assert any(isinstance(event, Progress) and event.message == found["similar"]["meaning"] for event in events)
    to_come = range(100, 140)
    answers = inference.predict(
        read_artifact(tmp_path / "out" / "head"), base, [Media("", frame(film, 0)) for film in to_come]
    )
    unseen = np.mean([answer["label"] == label(film) for answer, film in zip(answers, to_come, strict=True)])
    without = score_without_films(request, base)
    assert abs(finished.report["score"] - unseen) < 0.12
    assert without > unseen + 0.15


def score_without_films(request: TrainRequest, base: Backbone) -> float:
    """The out-of-fold score of the same head if every frame stands alone."""
    corpus, task, _ = read_training(request.training, find(request.task), request.hyperparameters.rare())
    bound = encoder_task(task)
    context = FitContext(bound, 2, DEVICE, 1, request.seed, lambda: False)
    choice = selection.choose(
        DesignMatrix(frozen(corpus, base), corpus.targets), None, base.feature_sets(), context, PenaltyStart(),
        corpus.groups.group_N,
    )  # fmt: skip
    held = HeldOut(corpus.targets, choice.fold_N, group_N=corpus.groups.numbers)
    return assess(choice.logits_NK, held, bound, seed=request.seed).score.value


def frozen(corpus: Corpus, base: Backbone) -> dict[str, features.Floats]:
    names = features.plain([name for members in base.feature_sets().values() for name in members])
    tokens = base.tokenize(corpus.inputs)
    steps = features.compute(corpus, tokens, names, base, cache_dir=None, stop=lambda: False)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return dict(end.value)


@pytest.mark.slow
def test_pictures_that_have_nothing_to_do_with_each_other_are_no_groups(tmp_path: Path, base: Backbone) -> None:
    request = TrainRequest(
        training=source(tmp_path / "unrelated.zip", range(200, 240), 1), task="image-classification",
        output_dir=tmp_path / "out", strategy="head",
    )  # fmt: skip
    *_, finished = train(request, base, stop=lambda: False)
    assert isinstance(finished, Finished)
    assert "groups" not in finished.report["data"]
    assert not [each for each in finished.report["warnings"] if each["code"] == "similar_rows_kept_apart"]
