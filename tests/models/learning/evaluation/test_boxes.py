from __future__ import annotations

import numpy as np
import pytest

from models.datasets.examples import Box
from models.learning.evaluation import average_precision, box_errors, scores
from models.learning.evaluation.boxes import PictureBoxes, drawn, match

LABELS = ("cat", "dog")


def found(*boxes: tuple[float, float, float, float, int, float]) -> PictureBoxes:
    table = np.array(boxes, dtype=np.float64).reshape(-1, 6)
    return PictureBoxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


def some_pictures(seed: int, pictures: int = 12) -> tuple[list[PictureBoxes], list[PictureBoxes]]:
    """Drawn boxes of two labels; found ones a little beside them, some of another label, some anywhere."""
    generator = np.random.default_rng(seed)
    truth, answers = [], []
    for _ in range(pictures):
        corner = generator.uniform(0, 80, (generator.integers(0, 6), 2))
        edges = np.concatenate([corner, corner + generator.uniform(5, 40, corner.shape)], axis=1)
        label = generator.integers(0, 2, len(edges))
        truth.append(PictureBoxes(edges, label))
        beside = edges + generator.normal(0, 2, edges.shape)
        swapped = np.where(generator.random(len(label)) < 0.2, 1 - label, label)
        stray = np.array([[0, 0, 30, 30], [5.0, 5, 20, 60]])
        answers.append(
            PictureBoxes(
                np.concatenate([beside, stray]),
                np.concatenate([swapped, [0, 1]]),
                generator.random(len(edges) + 2).round(2),  # with ties
            )
        )
    return truth, answers


def test_targets_become_arrays_and_boxes_of_other_labels_are_left_out() -> None:
    boxes = drawn((Box("dog", 1, 2, 3, 4), Box("mouse", 0, 0, 9, 9)), LABELS)

    assert boxes.edges_B4.tolist() == [[1, 2, 3, 4]]
    assert boxes.label_B.tolist() == [1]
    assert len(drawn((), LABELS)) == 0


def test_what_is_found_exactly_has_an_average_precision_of_one() -> None:
    truth = [drawn((Box("cat", 0, 0, 10, 10),), LABELS), drawn((), LABELS)]

    matches = match(truth, [found((0, 0, 10, 10, 0, 0.9)), found()], 2)

    assert matches.ap_TK[:, 0].tolist() == pytest.approx([1.0] * 10)
    assert np.isnan(matches.ap_TK[:, 1]).all()  # no dog is drawn
    assert average_precision.tally(matches).score == pytest.approx(1.0)


def test_boxes_in_pictures_without_any_count_against_a_model() -> None:
    truth = [drawn((Box("cat", 0, 0, 10, 10),), LABELS), drawn((), LABELS)]
    answers = [found((0, 0, 10, 10, 0, 0.5)), found((0, 0, 10, 10, 0, 0.9))]

    assert average_precision.tally(match(truth, answers, 2)).score == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_the_tally_of_all_pictures_is_what_the_library_computes(seed: int) -> None:
    matches = match(*some_pictures(seed), 2)

    assert average_precision.tally(matches).score == pytest.approx(matches.ap_TK[0].mean(), abs=1e-9)
    every = average_precision.tally(matches, slice(None))
    assert every.score == pytest.approx(matches.ap_TK.mean(), abs=1e-9)


def test_some_pictures_have_the_score_that_the_library_gives_them_alone() -> None:
    truth, answers = some_pictures(7)
    rows = np.array([1, 4, 5, 9])

    alone = match([truth[row] for row in rows], [answers[row] for row in rows], 2)

    assert average_precision.tally(match(truth, answers, 2)).take(rows).score == pytest.approx(alone.ap_TK[0].mean())


def test_the_interval_narrows_with_more_pictures_and_holds_the_score() -> None:
    few, many = (
        scores.score(average_precision.tally(match(*some_pictures(3, pictures), 2, thresholds=(0.5,))))
        for pictures in (10, 160)
    )

    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low


def test_two_models_are_compared_on_the_same_pictures() -> None:
    truth, answers = some_pictures(1)
    old = average_precision.tally(match(truth, answers, 2))
    exact = [PictureBoxes(each.edges_B4, each.label_B, np.ones(len(each))) for each in truth]
    new = average_precision.tally(match(truth, exact, 2))

    better, same = scores.compare(new, old), scores.compare(old, old)

    assert better.gain == pytest.approx(1 - old.score)
    assert better.probability == 1.0
    assert (same.gain, same.probability) == (0.0, 0.5)


def test_errors_are_confused_missed_or_background() -> None:
    truth = [drawn((Box("cat", 0, 0, 10, 10), Box("dog", 50, 50, 60, 60)), LABELS), drawn((), LABELS)]
    answers = [
        found((0, 0, 10, 10, 1, 0.9), (1, 0, 10, 10, 0, 0.8), (50, 50, 60, 60, 0, 0.7), (0, 0, 9, 9, 0, 0.1)),
        found((0, 0, 5, 5, 1, 0.6)),
    ]

    errors = box_errors.count(truth, answers, 2, min_score=0.5)
    report = box_errors.describe(errors, LABELS, [8, 9], ["a.jpg", "b.jpg"])

    # The cat is found as one, though a dog is found there with more certainty; that dog is in the background, then.
    assert errors.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 2, 0]]
    assert report["confusions"] == [{"label": "dog", "predicted": "cat", "count": 1}]
    assert report["background"] == {"cat": 0, "dog": 2}
    assert report["worst_pictures"][0] == {"row": 8, "name": "a.jpg", "confused": 1, "missed": 0, "background": 1}
    assert [each["row"] for each in report["worst_pictures"]] == [8, 9]


def test_what_is_missed_is_counted_by_label() -> None:
    truth = [drawn((Box("cat", 0, 0, 10, 10), Box("dog", 50, 50, 60, 60)), LABELS)]

    report = box_errors.describe(box_errors.count(truth, [found()], 2, min_score=0.5), LABELS, [1], ["a.jpg"])

    assert report["missed"] == {"cat": 1, "dog": 1}


def test_the_least_score_lies_between_right_and_wrong_boxes() -> None:
    truth = [drawn((Box("cat", 0, 0, 10, 10), Box("cat", 50, 50, 60, 60)), LABELS)]
    answers = [found((0, 0, 10, 10, 0, 0.9), (50, 50, 60, 60, 0, 0.8), (20, 20, 30, 30, 0, 0.2))]

    assert box_errors.best_min_score(match(truth, answers, 2)) == pytest.approx(0.5)
    assert box_errors.best_min_score(match(truth, [found()], 2)) == 0.5


def test_a_report_has_both_metrics_with_intervals_and_by_label() -> None:
    matches = match(*some_pictures(2), 2)

    report = average_precision.describe(matches, LABELS)

    assert report["ap50"]["low"] <= report["ap50"]["score"] <= report["ap50"]["high"]
    assert report["ap"]["score"] < report["ap50"]["score"]
    assert report["per_class"]["cat"]["boxes"] == int(matches.labels[0].drawn_N.sum())
    assert report["per_class"]["dog"]["ap50"] == pytest.approx(matches.ap_TK[0, 1], abs=1e-4)
