from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from models.artifacts.folder import WEIGHTS, read_artifact
from models.backbones.text import TextBackbone
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.heads import ngram_head, ngrams
from models.learning.heads.ngram_head import Fits, NgramHead, NgramVocabulary
from models.learning.tasks import link_functions
from models.learning.training import train
from tests.models.learning import inference
from tests.models.learning.generated import coded

Rows = list[tuple[str, str]]
RequestFactory = Callable[..., TrainRequest]


def _train(request: TrainRequest, backbone: TextBackbone) -> tuple[list[VersionReady], Finished]:
    found = list(train(request, backbone, stop=lambda: False))
    assert isinstance(found[-1], Finished)
    return [event for event in found if isinstance(event, VersionReady)], found[-1]


def _accuracy(candidate: VersionReady, backbone: TextBackbone, rows: Rows) -> float:
    predictions = inference.predict(read_artifact(candidate.artifact_dir), backbone, [text for text, _ in rows])
    return float(np.mean([found["label"] == label for found, (_, label) in zip(predictions, rows, strict=True)]))


def _tfidf(rows: Rows, unseen: Rows) -> float:
    """What scikit-learn makes of the words."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    model.fit([text for text, _ in rows], [label for _, label in rows])
    return float(model.score([text for text, _ in unseen], [label for _, label in unseen]))


def test_a_term_is_in_the_same_bucket_everywhere() -> None:
    found = ngrams.read(["Grüße an alle"])
    code = "from models.learning.heads import ngrams; print(ngrams.read(['Grüße an alle']).buckets.tolist())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(other.stdout) == found.buckets.tolist()


def test_terms_do_not_depend_on_neighbours_case_or_form() -> None:
    texts = ["Wo ist meine Karte?", "", "wo  IST meine karte ?", "Ｗｏ ist meine Karte?", "今日は天気がいい"]
    together = ngrams.read(texts)
    for text, found in zip(texts, together.each(), strict=True):
        alone = ngrams.read([text])
        assert np.array_equal(alone.buckets, found.buckets)
        assert np.array_equal(alone.counts, found.counts)
    first, nothing, spaced, wide, signs = together.each()
    assert np.array_equal(first.buckets, spaced.buckets)
    assert np.array_equal(first.buckets, wide.buckets)
    assert len(nothing.buckets) == 0
    assert len(signs.buckets) >= 8 + 7  # each sign, and each pair of neighbours
    # Words of neighbouring texts are no pair.
    assert sum(map(len, (part.buckets for part in ngrams.read(["ab", "cd"]).each()))) == 2 * len(
        ngrams.read(["ab"]).buckets
    )


def test_long_texts_are_read_up_to_a_limit() -> None:
    assert len(ngrams.read(["wort " * 100_000]).buckets) == len(ngrams.read(["wort " * 1_000]).buckets)
    many = ngrams.read([f"{number:x}" * 500 for number in range(400)])  # several chunks
    assert len(many) == 400
    assert np.array_equal(many.take(np.array([399])).buckets, ngrams.read([f"{399:x}" * 500]).buckets)


@pytest.mark.parametrize("rows", [400, 1_200])
def test_both_ways_of_fitting_find_the_same_head(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = coded(rows, seed=1)
    found = ngrams.read([text for text, _ in notes])
    targets = torch.tensor([int(label[-1]) for _, label in notes])
    weighed = NgramVocabulary.learn(found, outputs=8).weigh(found)
    few, rest = np.arange(0, rows, 4), np.arange(1, rows, 4)
    heads = []
    for most in (0, 10_000):
        monkeypatch.setattr(ngram_head, "_GRAM_ROWS", most)
        fits = Fits(weighed, targets, link_functions.SOFTMAX, outputs=8)
        weight_VK, bias_K = fits.fit_all(10.0)
        heads.append((fits.fit(few, rest, 10.0), weighed @ weight_VK + bias_K))
    for one, other in zip(*heads, strict=True):
        assert np.abs(link_functions.SOFTMAX.mean_of(one) - link_functions.SOFTMAX.mean_of(other)).max() < 0.02


_TEMPLATES = (
    ("remind me to call {} {}", "tell me when {} calls {}", "forget about {} {}"),
    ("my order {} came {} days late", "my order {} never came {} days late"),
    ("colour {} size {} please", "no colour {} size {} please"),
)


def test_an_n_gram_part_that_cannot_be_fitted_is_left_out_and_said_to_be(
    small_backbone: TextBackbone, make_request: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: torch.Tensor) -> None:
        raise torch.linalg.LinAlgError("the algorithm failed to converge")  # type: ignore[attr-defined]

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fail)  # of what the part alone computes
    (candidate,), finished = _train(make_request(coded(40, seed=0)), small_backbone)
    for report in (candidate.report, finished.report):
        assert [warning["code"] for warning in report["warnings"]] == ["ngrams_not_fitted"]
        assert "lexical" not in report
        assert report["hyperparameters"]["lexical"] is False


@pytest.mark.parametrize("templates", _TEMPLATES)
def test_texts_made_from_templates_have_the_head_of_any_others(
    templates: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundred rows and more that span a few dozen dimensions: their products in float32 have negative eigenvalues.
    texts = [form.format(f"x{one}", two) for one in range(14) for two in range(30, 40) for form in templates]
    targets = torch.arange(len(texts)) % len(templates)
    found = ngrams.read(texts)
    weighed = NgramVocabulary.learn(found, outputs=len(templates)).weigh(found)
    train, held = np.arange(0, len(texts), 2), np.arange(1, len(texts), 2)
    answers = []
    for most in (0, 10_000):
        monkeypatch.setattr(ngram_head, "_GRAM_ROWS", most)
        fits = Fits(weighed, targets, link_functions.SOFTMAX, outputs=len(templates))
        weight_VK, bias_K = fits.fit_all(20.0)
        answers.append((fits.fit(train, held, 20.0), weighed @ weight_VK + bias_K))
    for one, other in zip(*answers, strict=True):
        assert np.abs(link_functions.SOFTMAX.mean_of(one) - link_functions.SOFTMAX.mean_of(other)).max() < 0.02
    assert (answers[1][1].argmax(1) == targets.numpy()).all()


def test_a_lexicon_is_bounded_by_its_labels() -> None:
    found = ngrams.read([text for text, _ in coded(2_000, seed=1)])
    assert len(NgramVocabulary.learn(found, outputs=2).buckets_V) > 3_000
    for outputs in (77, 500, 4_000):
        lexicon = NgramVocabulary.learn(found, outputs=outputs)
        assert len(lexicon.buckets_V) * outputs * 2 <= 8 * 2**20
        assert (np.diff(lexicon.buckets_V) > 0).all()


def test_unknown_terms_say_nothing() -> None:
    lexicon = NgramVocabulary.learn(ngrams.read(["eins zwei", "drei vier"]), outputs=2)
    head = NgramHead(lexicon, np.ones((len(lexicon.buckets_V), 2), dtype=np.float16), np.array([0.5, -0.5], "f"))
    assert head.logits(ngrams.read(["", "xyzzy"])).tolist() == [[0.5, -0.5]] * 2
    assert head.logits(ngrams.read([])).shape == (0, 2)
    weights = head.weights()
    with pytest.raises(ValueError, match="one weight per term"):
        ngram_head.load(replace(weights, buckets_V=weights.buckets_V[:-1]))


@pytest.mark.slow
def test_a_code_that_the_base_does_not_know(
    small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path
) -> None:
    notes, unseen = coded(320, seed=1), coded(160, seed=2)
    make = partial(make_request, notes, feature_cache_dir=tmp_path / "features")
    request = make()
    (candidate,), _ = _train(request, small_backbone)
    (bare,), _ = _train(make(hyperparameters={"lexical": False}), small_backbone)
    accuracy, baseline = _accuracy(candidate, small_backbone, unseen), _tfidf(notes, unseen)
    assert accuracy >= baseline - 0.01
    assert baseline > _accuracy(bare, small_backbone, unseen) + 0.1
    report = candidate.report
    assert report["situation"]["similarity"] == "different"
    assert report["situation"]["terms_beat_features"]
    assert report["lexical"]["share"] >= 0.5
    assert report["lexical"]["both"]["score"] == report["score"] > report["lexical"]["head"]["score"]
    assert "lexical" not in bare.report
    json.dumps(report, allow_nan=False)
    (again,), _ = _train(replace(request, output_dir=request.output_dir.with_name("again")), small_backbone)
    one, two = ((each.artifact_dir / WEIGHTS).read_bytes() for each in (candidate, again))
    assert one == two
    # Beside it, nothing that old artifacts have not.
    assert set(read_artifact(bare.artifact_dir).tensors) == {"head.weight", "head.bias"}


def test_what_is_read_back_answers_as_it_was_measured(
    small_backbone: TextBackbone, make_request: RequestFactory
) -> None:
    notes, unseen = coded(120, seed=1), coded(60, seed=2)
    (candidate,), finished = _train(make_request(notes, validation=unseen), small_backbone)
    assert candidate.report["measured_on"] == "validation_file"
    assert _accuracy(candidate, small_backbone, unseen) == pytest.approx(finished.report["score"], abs=1e-9)
    artifact = read_artifact(candidate.artifact_dir)
    texts = [text for text, _ in unseen]
    together = inference.logits(artifact, small_backbone, texts)
    assert np.abs(together[7:8] - inference.logits(artifact, small_backbone, texts[7:8])).max() < 1e-3


@pytest.mark.slow
def test_terms_are_left_out_where_the_base_knows_better(
    backbone: TextBackbone, tickets: Rows, make_request: RequestFactory
) -> None:
    make = partial(make_request, tickets[::2])
    (candidate,), _ = _train(make(), backbone)
    assert candidate.report["lexical"]["share"] == 0
    assert candidate.report["situation"]["similarity"] == "similar"
    assert "lexical.weight" not in read_artifact(candidate.artifact_dir).tensors
    (asked,), _ = _train(make(hyperparameters={"lexical": True}), backbone)
    assert asked.report["lexical"]["share"] > 0
    assert "lexical.weight" in read_artifact(asked.artifact_dir).tensors


def test_several_labels(small_backbone: TextBackbone, make_request: RequestFactory, tmp_path: Path) -> None:
    def pairs(rows: int, seed: int) -> list[tuple[str, list[str]]]:
        notes = coded(2 * rows, seed=seed)
        order = np.random.default_rng(seed).permutation(2 * rows)
        both = zip((notes[at] for at in order[:rows]), (notes[at] for at in order[rows:]), strict=True)
        return [(f"{one[0]} {two[0]}", sorted({one[1], two[1]})) for one, two in both]

    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in pairs(300, 1)))
    request = replace(
        make_request(coded(8, seed=1)),
        training=DatasetSource(path, "jsonl", {"text": "text", "labels": "labels"}),
        task="multi-label-classification",
    )
    (candidate,), _ = _train(request, small_backbone)
    scores = candidate.report["lexical"]
    assert scores["share"] >= 0.5
    assert scores["both"]["score"] > scores["head"]["score"] + 0.05
    unseen = pairs(50, 2)
    predictions = inference.predict(read_artifact(candidate.artifact_dir), small_backbone, [text for text, _ in unseen])
    right = [set(found["labels"]) == set(labels) for found, (_, labels) in zip(predictions, unseen, strict=True)]
    assert np.mean(right) > 0.5


@pytest.mark.slow
def test_refined_candidates_are_compared_with_both_parts(
    small_backbone: TextBackbone, make_request: RequestFactory
) -> None:
    notes, unseen = coded(320, seed=1), coded(120, seed=2)
    request = make_request(notes, validation=coded(80, seed=3), strategy="partial", hyperparameters={"n_epochs": 2})
    found, finished = _train(request, small_backbone)
    assert [candidate.name for candidate in found] == ["head", "partial"]
    tried = next(entry for entry in finished.report["strategies_tried"] if entry["name"] == "partial")
    both = finished.report["lexical"]["both"]["score"]
    assert tried["head_score_on_these_rows"] > both - 0.1
    assert tried["score"] > both - 0.1
    assert "lexical.weight" in read_artifact(found[1].artifact_dir).tensors
    assert _accuracy(found[1], small_backbone, unseen) >= _tfidf(notes, unseen) - 0.05
