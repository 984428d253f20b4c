"""Answers: what is refused before anything is computed, and where outputs are decoded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from models.artifacts.manifest import UNSCALED
from models.learning import tasks
from models.learning.tasks.token_labels import TokenLabels
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.serving.decoding import INLINE_VALUES, check_options, decode
from models.serving.errors import InvalidInput
from models.serving.predictor import Predictor
from tests.models.serving.conftest import call


def passes(predictor: Predictor) -> int:
    return sum(runner.engine.passes for runner in predictor.runners())


def test_an_answer_that_would_be_too_large_is_refused(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any
) -> None:
    acme = customer()
    labels = [f"label {at}" for at in range(2_000)]
    publish(acme, "one", labels=labels)
    publish(acme, "many", labels=labels, task="multi-label-classification")

    async def run() -> None:
        async with predicting() as predictor:
            for model, top_k, param, mend in (
                ("one", 2_000, "top_k", "at most 100 inputs, or ask for a top_k of at most 1333"),
                ("many", 1, "inputs", "at most 100 inputs"),
            ):
                with pytest.raises(InvalidInput, match=f"300000 scores, at most 200000.*{mend}") as caught:
                    await predictor.predict(call(acme, model, ["?"] * 150, top_k))
                assert caught.value.param == param
                assert passes(predictor) == 0
            for model, rows, top_k in (("one", 150, 1_333), ("one", 100, 5_000), ("many", 100, 1)):
                answer = await predictor.predict(call(acme, model, ["?"] * rows, top_k))
                assert [len(row["top"]) for row in answer.predictions] == [min(top_k, 2_000)] * rows
                before = passes(predictor)
                with pytest.raises(InvalidInput):
                    await predictor.predict(call(acme, model, ["?"] * (rows + 1), top_k))
                assert passes(predictor) == before

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("text-classification", ["min_score"]),
        ("text-pair-classification", ["min_score"]),
        ("image-classification", ["min_score"]),
        ("multi-label-classification", ["min_score"]),
        ("text-regression", ["top_k", "min_score"]),
        ("token-classification", ["top_k", "min_score"]),
        ("text-generation", ["top_k", "min_score"]),
        ("object-detection", []),
    ],
)
def test_options_that_an_answer_has_no_use_for_are_refused(name: str, refused: list[str]) -> None:
    task = tasks.find(name)
    for option in ("top_k", "min_score"):
        asked: dict[str, Any] = {"top_k": None, "min_score": None, option: 0}
        if option not in refused:
            check_options(task, **asked)
            continue
        with pytest.raises(InvalidInput, match=rf"^{option} limits .*\({name}\).* Leave it out\.$") as caught:
            check_options(task, **asked)
        assert caught.value.param == option


@dataclass(frozen=True)
class NotingTask(TokenLabels):
    """Spans, and on which threads they were decoded."""

    threads: list[threading.Thread] = field(default_factory=list)

    def decode(self, *arguments: Any) -> list[dict[str, Any]]:
        self.threads.append(threading.current_thread())
        return super().decode(*arguments)


@dataclass
class Words:
    """What the base made of a text of so many words of one character."""

    spans_W2: Any


@dataclass
class Outputs:
    outputs: list[Any]
    inputs: list[str]
    rows: dict[int, Any]

    @property
    def values(self) -> int:
        return sum(output.size for output in self.outputs)


@dataclass
class Labels:
    labels: tuple[str, ...] = ("city",)
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, float] = UNSCALED


@pytest.mark.parametrize(("words", "inline"), [(10, True), (INLINE_VALUES // 3 + 1, False)])
def test_what_takes_long_to_decode_is_not_decoded_on_the_event_loop(words: int, inline: bool) -> None:
    spans_W2 = np.stack([np.arange(words), np.arange(words) + 1], axis=1)
    certain_WK = np.eye(3, dtype=np.float32)[[1] + [0] * (words - 1)]
    answered: Any = Outputs([certain_WK], ["x" * words], {0: Words(spans_W2)})
    task, adapter = NotingTask(), Labels()
    (found,) = asyncio.run(decode(task, adapter, answered, top_k=1))  # type: ignore[arg-type]
    assert found == {"spans": [{"start": 0, "end": 1, "label": "city", "score": 1.0, "text": "x"}]}
    assert [thread is threading.main_thread() for thread in task.threads] == [inline]
