"""The benchmarks' own judgement, on answers whose score is known."""

from __future__ import annotations

import pytest

from tests.benchmarks import regret, scoring
from tests.benchmarks.regret_cells import Cell
from tests.benchmarks.task_sets import TaskSet, spans_of


def test_answers_are_right_as_a_whole() -> None:
    rows = [{"label": "a"}, {"label": "b"}, {"label": "a"}, {"label": "b"}]
    found = scoring.score("image-classification", rows, [{"label": "a"}] * 4)
    assert found.value == 0.5
    assert found.low < 0.5 < found.high

    span = {"start": 0, "end": 6, "label": "city"}
    rows = [{"text": "", "spans": [span, {**span, "start": 9, "end": 12}]}, {"text": "", "spans": []}]
    answers = [{"spans": [span]}, {"spans": [{**span, "label": "river"}]}]
    assert scoring.score("token-classification", rows, answers).value == pytest.approx(0.5)  # 1 right, 2 true, 2 said

    rows = [{"labels": ["a", "b"]}, {"labels": []}]
    assert scoring.score("multi-label-classification", rows, [{"labels": ["b"]}, {"labels": ["c"]}]).value == 0.5

    rows = [{"value": value} for value in (0.0, 1.0, 2.0, 5.0)]
    assert scoring.score("text-regression", rows, [{"value": 3 - 2 * row["value"]} for row in rows]).value == -1.0


def test_tags_become_spans_in_characters() -> None:
    tokens = ["New", "York", "Paris", "and", "Rome"]
    spans = spans_of(tokens, ["B-city", "I-city", "B-city", "O", "I-city"])
    text = " ".join(tokens)
    assert [text[span["start"] : span["end"]] for span in spans] == ["New York", "Paris", "Rome"]


def test_auto_is_compared_with_the_best_single_strategy() -> None:
    def made(score: float, seconds: float) -> dict[str, object]:
        return {"score": score, "seconds": seconds, "tokens": 10, "made": "partial", "situation": "small and similar"}

    cell = Cell("a", lambda _: TaskSet("text-classification", [], []), ("head", "partial", "full"))
    runs = {"head": made(0.8, 1), "partial": made(0.9, 40), "full": made(0.85, 59), "auto": made(0.895, 25)}
    verdict = regret.judge(cell, runs)
    assert verdict.best == "partial"
    assert verdict.gain == pytest.approx(-0.5)
    assert verdict.seconds_share == 0.25
    assert verdict.tokens_share == pytest.approx(1 / 3)
