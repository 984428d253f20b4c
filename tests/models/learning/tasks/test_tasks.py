"""Values and spans: what a task says of targets, and what training makes of small sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from models.artifacts.folder import read_artifact
from models.artifacts.manifest import Manifest
from models.backbones.text import TextBackbone
from models.backbones.words import joined, tokenize, word_spans
from models.datasets.examples import Span, TextPair
from models.learning.comparison.labels import restrict, translate
from models.learning.contract.errors import Stopped, TooFewRows, UnevenPairs, UnknownLabel
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.data.ragged import Ragged, join
from models.learning.evaluation import scores
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import encoding
from models.learning.tasks import find, spans
from models.learning.tasks.task import DecodeOptions
from models.learning.training import train
from tests.models.learning import inference
from tests.models.learning.generated import nearness, places

Write = Callable[..., TrainRequest]


@dataclass(frozen=True)
class _Words:
    """Of a row, what decoding looks at."""

    spans_W2: np.ndarray[Any, Any]


@pytest.fixture
def write(tmp_path: Path, feature_cache: Path) -> Write:
    """A request for rows, each of them a JSON object."""

    def make(rows: list[dict[str, Any]], task: str, **fields: Any) -> TrainRequest:
        def source(name: str, found: list[dict[str, Any]]) -> DatasetSource:
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
            return DatasetSource(path, "jsonl", {column: column for column in found[0]})

        validation = fields.pop("validation", None)
        return TrainRequest(
            source("training", rows),
            task,
            tmp_path / "out",
            validation=source("validation", validation) if validation else None,
            **{"strategy": "head", "seed": 3, "threads": 1, "feature_cache_dir": feature_cache, **fields},
        )

    return make


def _candidates(request: TrainRequest, backbone: TextBackbone) -> list[VersionReady]:
    found = list(train(request, backbone, stop=lambda: False))
    assert isinstance(found[-1], Finished)
    json.dumps(found[-1].report, allow_nan=False)
    return [event for event in found if isinstance(event, VersionReady)]


def test_correlations_are_those_of_scipy() -> None:
    task = find("text-regression").bind([1.0, 2.0, 9.0])
    generator = np.random.default_rng(0)
    true = generator.normal(5, 3, 200)
    said = true + generator.normal(0, 2, 200)
    encoded = task.encode(list(true), ())
    chosen = task.encode(list(said), ())
    figures = task.figures(encoded, chosen, chosen, ())["regression"]
    assert figures["pearson"] == pytest.approx(pearsonr(true, said)[0], abs=1e-5)
    assert figures["spearman"] == pytest.approx(spearmanr(true, said)[0], abs=1e-5)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.square(true - said).mean()), rel=1e-5)
    assert figures["mae"] == pytest.approx(np.abs(true - said).mean(), rel=1e-5)
    score = scores.score(task.tally(encoded, chosen))
    theirs = pearsonr(true, said).confidence_interval()
    assert (score.low, score.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert task.tally(encoded, task.majority(encoded, encoded)).score == 0.0


def test_nine_of_ten_values_are_between_low_and_high() -> None:
    task = find("text-regression")
    errors = np.random.default_rng(1).normal(0, 2, (1_000, 1)).astype(np.float32)
    (reach,) = task.tune_thresholds(np.zeros_like(errors), errors) or ()
    assert np.mean(np.abs(errors) <= reach) == pytest.approx(0.9, abs=0.003)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_value_is_learned_in_any_unit(backbone: TextBackbone, write: Write, scale: float) -> None:
    rows = [{**row, "value": 1e3 + scale * row["value"]} for row in nearness(160, seed=0)]
    (candidate,) = _candidates(write(rows, "text-regression"), backbone)
    report = candidate.report
    assert report["metric"] == "pearson"
    assert report["score"] >= 0.8
    assert report["score_low"] < report["score"] < report["score_high"]
    assert report["score"] > report["baseline"]["gate"]
    assert 0.1 * scale < report["regression"]["rmse"] < 1.5 * scale
    unseen = nearness(60, seed=1)
    inputs = [TextPair(row["text"], row["text_pair"]) for row in unseen]
    answers = inference.predict(read_artifact(candidate.artifact_dir), backbone, inputs)
    values = np.array([answer["value"] for answer in answers])
    true = np.array([1e3 + scale * row["value"] for row in unseen])
    assert np.corrcoef(values, true)[0, 1] >= 0.75
    assert np.sqrt(np.square(values - true).mean()) < 0.8 * true.std()
    assert all(answer["low"] < answer["value"] < answer["high"] for answer in answers)


def _rated(offset: float, factor: float) -> list[dict[str, Any]]:
    words = ["awful", "bad", "so-so", "good", "wonderful"]
    return [
        {"text": f"The {thing} was {word}.", "value": offset + factor * index}
        for thing in ("soup", "room", "film", "trip", "book", "service")
        for index, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    ("offset", "factor"), [(1.7e9, 25.0), (2.024e7, 1.0), (-1e9, 1e-3), (0.0, 1e-200), (0.0, 1e-38), (0.0, 1e29)]
)
def test_answers_are_as_fine_as_the_values_differ(
    small_backbone: TextBackbone, write: Write, offset: float, factor: float
) -> None:
    """Times in seconds since 1970, years with days in one number: in any unit the same answers, up to that unit."""
    found = []
    for zero, one in ((0.0, 1.0), (offset, factor)):
        (candidate,) = _candidates(write(_rated(zero, one), "text-regression"), small_backbone)
        answers = inference.predict(
            read_artifact(candidate.artifact_dir), small_backbone, ["The car was bad.", "So-so"]
        )
        figures = candidate.report["regression"]
        found.append(
            [
                *((answer[name] - zero) / one for answer in answers for name in ("value", "low", "high")),
                *(figures[name] / one for name in ("rmse", "mae")),
                candidate.report["score"],
            ]
        )
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    assert found[0][0] != pytest.approx(found[0][3], abs=1e-2)


def test_values_of_versions_of_before_are_answered_as_they_were() -> None:
    """Their heads answer in the customer's unit, and so do their margins."""
    task, outputs = find("text-regression"), [np.array([0.1], dtype=np.float32), np.array([3.0], dtype=np.float32)]
    low, high = task.decode(outputs, ["a", "b"], {}, DecodeOptions((), (0.2,)))
    assert low == {"value": float(np.float32(0.1)), "low": pytest.approx(-0.1), "high": pytest.approx(0.3)}
    assert task.decode(outputs, ["a", "b"], {}, DecodeOptions(())) == [{"value": low["value"]}, {"value": 3.0}]
    assert high["value"] == 3.0


def test_values_of_another_scale_are_brought_to_ours() -> None:
    task = find("text-regression").bind([1e9, 1e9 + 10.0])  # mean 1e9 + 5, deviation 5
    before = Manifest("text-regression", "head", (), ("mean.6",), "minilm", "abc")
    after = replace(before, scale=(1e9 + 2.0, 4.0))
    own = np.array([[1.5]], dtype=np.float32)  # 1e9 + 8
    assert translate(own, task, after, ()) == pytest.approx(0.6)
    assert translate(np.array([[1e9]], dtype=np.float32), task, before, ()) == pytest.approx(-1.0)


def test_a_single_text_has_a_value_too(backbone: TextBackbone, write: Write) -> None:
    rows = _rated(0.0, 1.0)
    (candidate,) = _candidates(write(rows, "text-regression"), backbone)
    answers = inference.predict(
        read_artifact(candidate.artifact_dir), backbone, ["The car was awful.", "The car was wonderful."]
    )
    assert answers[0]["value"] < 1.5
    assert answers[1]["value"] > 2.5


def test_rows_that_cannot_be_learned_from(small_backbone: TextBackbone, write: Write) -> None:
    pairs = nearness(12, seed=0)
    with pytest.raises(UnevenPairs):
        _candidates(write(pairs, "text-regression", validation=[{"text": "alone", "value": 1.0}]), small_backbone)
    rows = places(12, seed=0)
    foreign = [{"text": "In Rome", "spans": [{"start": 3, "end": 7, "label": "town"}]}] * 2
    with pytest.raises(UnknownLabel, match="town"):
        _candidates(write(rows, "token-classification", validation=foreign), small_backbone)
    with pytest.raises(TooFewRows):
        _candidates(write(rows[:3], "token-classification"), small_backbone)


def test_words_are_what_a_person_would_call_them() -> None:
    def words(text: str) -> list[str]:
        return [text[start:end] for start, end in word_spans(text)]

    assert words("At 7:30pm, in São Paulo!") == ["At", "7", ":", "30pm", ",", "in", "São", "Paulo", "!"]
    assert words("東京 tower") == ["東", "京", "tower"]
    assert words(" \n") == []


def test_words_that_touch_are_one_but_for_quotes_brackets_and_ends_of_sentences() -> None:
    def words(text: str) -> list[str]:
        return [text[start:end] for start, end in joined(word_spans(text), text)]

    assert words("@Foo's (U.S.-based) #tag") == ["@Foo", "'s", "(", "U.S.-based", ")", "#tag"]
    assert words('I don\'t :) "hi"... 7:30pm!') == ["I", "don't", ":)", '"', "hi", '"', ".", ".", ".", "7:30pm", "!"]
    assert words("see http://t.co/x1, 's '90s") == ["see", "http://t.co/x1", ",", "'", "s", "'", "90s"]
    assert words("東京3.14 a.b") == ["東", "京", "3", ".", "14", "a.b"]
    assert words("") == []


def _chosen(texts: list[str], spans_of: list[tuple[tuple[int, int, int], ...]]) -> str:
    return spans.choose_words(texts, spans_of, check_stop=lambda: None)


def test_words_are_as_long_as_spans_allow() -> None:
    text = "From London-based @jo, don't"
    tokenised, inside = (5, 17, 0), (5, 11, 0)  # a stretch between spaces, and a part of one
    assert _chosen([text, text], [(tokenised,), ()]) == "joined"
    assert _chosen([text, text], [(tokenised,), (inside,)]) == "apart"
    # A border inside a word of letters is moved in either way.
    assert _chosen([text], [((5, 9, 0),)]) == "joined"


def test_words_are_chosen_by_every_border_of_every_span() -> None:
    generator = np.random.default_rng(0)
    chosen = set()
    for _ in range(400):
        text = "".join(generator.choice(list("ab.'(s \u2003東")) for _ in range(12))
        start, end = sorted(generator.choice(13, 2, replace=False).tolist())
        apart_W2 = word_spans(text)
        joined_W2 = joined(apart_W2, text)
        lost = [{*apart_W2[:, side].tolist()} - {*joined_W2[:, side].tolist()} for side in (0, 1)]
        chosen.add(expected := "apart" if start in lost[0] or end in lost[1] else "joined")
        assert _chosen([text], [((start, end, 0),)]) == expected, (text, start, end)
    assert chosen == {"apart", "joined"}


def test_choosing_words_of_many_rows_can_be_stopped() -> None:
    def check_stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        spans.choose_words(["at home"], [((3, 7, 0),)], check_stop=check_stop)


def test_spans_are_carried_over_to_other_words() -> None:
    text = "Call @jo-ann in St. Ives now"
    apart = word_spans(text)
    whole = joined(apart, text)
    tags = spans.tag([(5, 12, 1), (16, 24, 0)], whole).tags_W
    certain = np.eye(5, dtype=np.float32)[tags]
    none = np.eye(5, dtype=np.float32)[np.zeros(len(whole), dtype=np.int64)]
    rows = Ragged.of(np.concatenate([none, certain]), np.array([len(whole)] * 2))
    carried = spans.carry_over(rows, [whole, whole], [apart, apart])
    assert carried[: len(apart)].argmax(1).tolist() == [0] * len(apart)
    assert carried[len(apart) :].argmax(1).tolist() == spans.tag([(5, 12, 1), (16, 24, 0)], apart).tags_W.tolist()


def test_pieces_belong_to_their_words(backbone: TextBackbone) -> None:
    text = "Unbelievable: Zürich's [SEP] 5pm"
    (row,) = tokenize(backbone, [text])
    assert [text[start:end] for start, end in row.spans_W2] == [
        "Unbelievable", ":", "Zürich", "'", "s", "[", "SEP", "]", "5pm",
    ]  # fmt: skip
    assert (row.word_T[0], row.word_T[-1]) == (-1, -1)
    assert np.array_equal(np.unique(row.word_T[1:-1]), np.arange(9))
    assert np.all(np.diff(row.word_T[1:-1]) >= 0)


def test_words_behind_what_the_base_reads_are_not_looked_for(backbone: TextBackbone) -> None:
    text = "Go to Unbelievable Zürich " * 100
    assert len(word_spans(text)) == 400
    for last in (0, 1, 2, 6, 12, 18, len(text) - 2, len(text) - 1):
        found = word_spans(text, last)
        assert np.array_equal(found, word_spans(text)[: len(found)])
        assert found[-1, 1] > last or len(found) == 400
    assert len(word_spans(text, 8)) == 3  # the word that holds it to its end, no other
    (row,) = tokenize(backbone, [text])
    ids, offsets_T2 = backbone.tokenize_with_offsets([text])[0]
    assert len(ids) == backbone.entry.max_tokens
    last = int(offsets_T2[:, 0].max())
    assert row.spans_W2[-1, 0] <= last < row.spans_W2[-1, 1]
    assert np.array_equal(row.spans_W2, word_spans(text)[: row.word_T.max() + 1])


def test_tags_and_back() -> None:
    text = "Fly from New York to Rome"
    words = word_spans(text)
    tags = spans.tag([(9, 17, 1), (21, 25, 0)], words).tags_W
    assert tags.tolist() == [0, 0, 3, 4, 0, 1]
    certain = np.eye(5, dtype=np.float32)[tags]
    assert spans.decode_spans([certain], [words], [text], ["city", "state"])[0] == [
        {"start": 9, "end": 17, "label": "state", "score": 1.0, "text": "New York"},
        {"start": 21, "end": 25, "label": "city", "score": 1.0, "text": "Rome"},
    ]
    both = spans.decode_spans(
        [certain[:0], certain[2:4], certain], [words[:0], words[2:4], words], ["", text, text], ["city", "state"]
    )
    assert [[span["text"] for span in row] for row in both] == [[], ["New York"], ["New York", "Rome"]]
    assert spans.decode_spans([certain[:0]], [words[:0]], [""], ["city", "state"]) == [[]]
    assert spans.tag([(5, 7, 0)], words).tags_W.tolist() == [0, 1, 0, 0, 0, 0]  # half a word is the word


def test_viterbi_finds_the_best_valid_tags() -> None:
    """Against all taggings of short rows, one by one."""
    generator = np.random.default_rng(0)
    counts = np.array([3, 0, 1, 4])
    probabilities = generator.dirichlet(np.ones(5), size=counts.sum()).astype(np.float32)
    found = spans.viterbi(Ragged.of(probabilities, counts))
    for row in range(len(counts)):
        own = probabilities[found.starts[row] : found.starts[row + 1]]
        taggings = np.indices((5,) * len(own)).reshape(len(own), -1).T if len(own) else np.empty((1, 0), dtype=int)
        valid = [tags for tags in taggings if _is_valid(tags)]
        best = max(valid, key=lambda tags: np.log(own[np.arange(len(own)), tags]).sum())
        assert found.values[found.starts[row] : found.starts[row + 1]].tolist() == list(best)


def _is_valid(tags: np.ndarray[Any, Any]) -> bool:
    before = 0
    for tag in tags:
        if tag and tag % 2 == 0 and before not in (tag, tag - 1):
            return False
        before = tag
    return True


def test_entity_f1_counts_whole_spans() -> None:
    task = find("token-classification")
    true = Ragged.of(np.array([1, 2, 0, 3, 0, 1]), np.array([3, 3]))
    said = np.eye(5, dtype=np.float32)[[1, 0, 0, 3, 0, 1]]  # the first span is cut short
    assert task.tally(true, said).score == pytest.approx(2 / 3)
    figures = task.figures(true, said, said, ["city", "state"])
    assert [row["f1"] for row in figures["per_class"]] == [0.5, 1.0]
    assert figures["spans"]["support"] == 3
    assert task.tally(true, task.majority(true, true)).score == 0.0


_DOSES = (Span(5, 8, "dose"), Span(8, 10, "unit"), Span(14, 22, "drug"))


def test_a_span_whose_borders_are_inside_a_word_counts_as_missed() -> None:
    """`252mg` is one word: whoever finds it says a dose that is none, and no unit. Only `morphine` can be right."""
    task, text = find("token-classification"), "take 252mg of morphine"
    labels = ("dose", "drug", "unit")
    encoded = task.encode([_DOSES, (Span(14, 22, "drug"),)], labels)
    true = task.align(encoded, [_Words(word_spans(text))] * 2)
    said = np.eye(7, dtype=np.float32)[true.values]  # the most that a model can learn of it
    assert task.tally(true, said).score == pytest.approx(2 * 2 / (3 + 4))
    figures = task.figures(true, said, said, labels)
    assert [(row["f1"], row["support"]) for row in figures["per_class"]] == [(0.0, 1), (1.0, 2), (0.0, 1)]
    assert figures["spans"]["support"] == 4
    assert task.supports(true, labels).tolist() == [1, 2, 1]
    # Wherever the rows go, they are counted so.
    again, others = join([true[np.array([1])], true[np.array([0])]]), np.concatenate([said[4:], said[:4]])
    assert task.tally(again, others).score == pytest.approx(4 / 7)
    assert task.tally(true[np.array([1])], said[4:]).score == 1.0
    # On the labels that two versions share, without those of `unit`.
    shared, shared_said = restrict(true, said, np.array([True, True, False]))
    assert task.tally(shared, shared_said).score == pytest.approx(4 / 6)


def test_only_borders_inside_words_are_moved() -> None:
    text = " to Berlin-Mitte, by train "
    words = word_spans(text)
    healthy = spans.tag([(4, 17, 0), (17, 20, 1), (20, 27, 1)], words)  # white space at the ends is no part of a span
    assert healthy.tags_W.tolist() == [0, 1, 2, 2, 2, 3, 3]
    assert (healthy.inexact_W.any(), healthy.lost) == (False, ())
    moved = spans.tag([(0, 1, 1), (5, 16, 0), (18, 23, 1), (23, 26, 0)], words)
    assert moved.tags_W.tolist() == [0, 1, 2, 2, 0, 3, 4]
    assert np.flatnonzero(moved.inexact_W).tolist() == [1, 5]
    assert moved.lost == (1, 0)
    task = find("token-classification")
    aligned = task.align(task.encode([(Span(4, 16, "city"),)], ("city",)), [_Words(words)])  # as they always were
    assert aligned.unread_NL is None
    assert aligned.inexact_U is None


def test_a_span_as_likely_as_not_is_an_answer() -> None:
    """Two hundred names with 0.45 to be one, among thousands of others with 0.1: all right, and none said by 1/2."""
    task, generator = find("token-classification"), np.random.default_rng(0)
    tags = np.zeros(5_200, dtype=np.int64)
    tags[generator.permutation(5_200)[:200]] = 1
    likely_U = np.where(tags == 1, 0.45, 0.1)
    probabilities = np.stack([1 - likely_U, likely_U, np.zeros(5_200)], axis=1).astype(np.float32)
    true = Ragged.of(tags, np.full(520, 10))
    assert task.tally(true, task.decide(probabilities, None)).score == 0.0
    factor = task.tune_thresholds(true, probabilities)
    assert factor is not None
    assert task.tally(true, task.decide(probabilities, factor)).score == 1.0
    certain = np.eye(3, dtype=np.float32)[tags]
    assert task.tune_thresholds(true, certain) == pytest.approx(1.0)
    words = np.array([[0, 3], [4, 7]])
    row = np.array([[0.55, 0.45, 0.0], [0.9, 0.1, 0.0]], dtype=np.float32)
    for thresholds, found in ((None, []), ((), []), (tuple(factor.tolist()), [0.45])):  # () and None: older versions
        (answer,) = task.decode(
            [row], ["Ann ran"], {0: _Words(words)}, DecodeOptions(["person"], thresholds=thresholds)
        )
        assert [span["score"] for span in answer["spans"]] == pytest.approx(found)


def test_the_factor_costs_at_most_a_point_and_a_half() -> None:
    """Of forty answers the standard error is seven points: a factor that loses all of them is no equal."""
    task = find("token-classification")
    likely_U = np.concatenate([np.full(50, 0.9), np.linspace(0.45, 0.2, 12), np.full(338, 0.001)])
    tags = np.zeros(400, dtype=np.int64)
    tags[:30] = 1
    probabilities = np.stack([1 - likely_U, likely_U, np.zeros(400)], axis=1).astype(np.float32)
    true = Ragged.of(tags, np.ones(400, dtype=np.int64))
    factor = task.tune_thresholds(true, probabilities)
    assert task.tally(true, task.decide(probabilities, None)).score == 0.75
    assert task.tally(true, task.decide(probabilities, factor)).score > 0.73


def test_the_factor_for_words_outside_is_scored_on_other_rows() -> None:
    """Where rows have several words each: a fold is of rows, a probability of a word."""
    task, generator = find("token-classification"), np.random.default_rng(1)
    likely_U = np.where(generator.random(3_000) < 0.1, 0.4, 0.01)
    tags = np.where(generator.random(3_000) < likely_U, 1, 0)
    logits = np.log(np.stack([1 - likely_U, likely_U, np.full(3_000, 1e-6)], axis=1)).astype(np.float32)
    rows = Ragged.of(tags, np.full(600, 5))
    held = HeldOut(rows, np.arange(600) % 4)
    assessment = assess(logits, held, task, seed=0)
    assert task.tally(rows, task.decide(assessment.probabilities_NK, None)).score == 0.0
    assert assessment.thresholds is not None
    assert assessment.score.value == pytest.approx(0.5, abs=0.06)
    assert np.array_equal(assessment.chosen[:, 1:], assessment.probabilities_NK[:, 1:])  # each word in its own place


def test_names_are_told_by_their_capitals(backbone: TextBackbone, write: Write) -> None:
    """The base is uncased: to its blocks, a Rose is a rose."""
    names = ["rose", "will", "mark", "faith", "bill", "grace", "art", "dawn", "hope", "pat", "frank", "summer"]
    frames = ["we saw {} there", "she likes {} most of all", "nobody expected {} today", "this is about {}"]
    rows = []
    for frame in frames:
        for name in names:
            for spelt in (name, name.title()):
                text, start = frame.format(spelt), frame.index("{")
                found = [{"start": start, "end": start + len(name), "label": "person"}] if spelt != name else []
                rows.append({"text": text, "spans": found})
    (candidate,) = _candidates(write(rows, "token-classification"), backbone)
    assert candidate.metrics["score"] >= 0.95


def test_spans_are_learned(backbone: TextBackbone, write: Write) -> None:
    (candidate,) = _candidates(write(places(150, seed=0), "token-classification"), backbone)
    report = candidate.report
    assert report["metric"] == "entity_f1"
    assert report["score"] >= 0.85
    assert report["score"] > report["baseline"]["gate"]
    assert {row["label"] for row in report["per_class"]} == {"city", "day"}
    unseen = places(60, seed=1)
    answers = inference.predict(read_artifact(candidate.artifact_dir), backbone, [row["text"] for row in unseen])
    said = [{(span["start"], span["end"], span["label"]) for span in answer["spans"]} for answer in answers]
    true = [{(span["start"], span["end"], span["label"]) for span in row["spans"]} for row in unseen]
    right = sum(len(one & other) for one, other in zip(said, true, strict=True))
    assert 2 * right / (sum(map(len, said)) + sum(map(len, true))) >= 0.8
    for answer, row in zip(answers, unseen, strict=True):
        assert all(row["text"][span["start"] : span["end"]] == span["text"] for span in answer["spans"])


@pytest.mark.slow
def test_a_validation_file_scores_spans(small_backbone: TextBackbone, write: Write) -> None:
    training, validation = places(80, seed=0), places(30, seed=1)
    (candidate,) = _candidates(write(training, "token-classification", validation=validation), small_backbone)
    assert candidate.report["measured_on"] == "validation_file"
    learned = {row["text"] for row in training}
    assert candidate.report["measured_rows"] == sum(row["text"] not in learned for row in validation) > 0


@pytest.mark.parametrize(
    ("task", "strategy"),
    [pytest.param("text-regression", "lora", marks=pytest.mark.slow), ("token-classification", "partial")],
)
def test_the_one_loop_refines_every_task(small_backbone: TextBackbone, write: Write, task: str, strategy: str) -> None:
    rows = nearness(60, seed=0) if task == "text-regression" else places(60, seed=0)
    quick = Hyperparameters(n_epochs=2, lora_rank=2, trainable_blocks=1, batch_size=16)
    # A validation file makes it one trial instead of four.
    held = nearness(30, seed=1) if task == "text-regression" else places(30, seed=1)
    request = write(rows, task, validation=held, strategy=strategy, hyperparameters=quick)
    head, refined = _candidates(request, small_backbone)
    assert (head.name, refined.name) == ("head", strategy)
    assert refined.metrics["score"] >= 0.6
    tried = refined.report["strategies_tried"][-1]
    assert tried["epochs"] >= 1
    assert tried["curve"][1]["training_loss"] < tried["curve"][0]["training_loss"]


@pytest.mark.parametrize("task", ["text-regression", pytest.param("token-classification", marks=pytest.mark.slow)])
def test_the_base_as_it_is_answers_too(backbone: TextBackbone, write: Write, task: str) -> None:
    rows = nearness(60, seed=0) if task == "text-regression" else places(60, seed=0)
    (candidate,) = _candidates(write(rows, task, strategy="zero-shot"), backbone)
    assert candidate.name == "zero-shot"
    assert candidate.metrics["score"] >= 0.5
    assert candidate.metrics["baseline"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-regression", "token-classification"])
def test_what_does_not_fit_into_memory_is_refined_on(
    small_backbone: TextBackbone, write: Write, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = nearness(60, seed=0) if task == "text-regression" else places(60, seed=0)
    monkeypatch.setattr(encoding, "_FEATURE_BYTES", 80_000)
    quick = Hyperparameters(n_epochs=1, lora_rank=2, batch_size=16)
    head, refined = _candidates(write(rows, task, strategy="lora", hyperparameters=quick), small_backbone)
    assert 4 <= head.report["data"]["rows_of_head"] < 50
    assert head.report["data"]["rows"] == refined.report["data"]["rows"] == 60
    assert head.report["measured_rows"] == head.report["data"]["rows_of_head"]


def test_targets_of_words_go_with_their_rows() -> None:
    ragged = Ragged.of(np.arange(6), np.array([2, 0, 3, 1]))
    assert ragged[np.array([2, 0])].values.tolist() == [2, 3, 4, 0, 1]
    assert ragged.owners.tolist() == [0, 0, 2, 2, 2, 3]
    assert ragged[np.array([1])].values.tolist() == []


def test_spans_of_a_text_that_overlap_no_word_border(backbone: TextBackbone) -> None:
    task = find("token-classification")
    (row,) = tokenize(backbone, ["from Berlin-Mitte on"])
    encoded = task.encode([(Span(5, 11, "city"),)], ("city",))
    assert task.align(encoded, [row]).values.tolist() == [0, 1, 0, 0, 0]
