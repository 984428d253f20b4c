"""What is refused before anything is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.serving.errors import InvalidInput
from models.serving.predictor import Predictor

from .conftest import call


def passes(predictor: Predictor) -> int:
    return sum(engine.passes for engine in predictor.engines())


def test_an_answer_that_would_be_too_large_is_refused(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any
) -> None:
    acme = customer()
    labels = [f"label {at}" for at in range(300)]
    publish(acme, "one", labels=labels)
    publish(acme, "many", labels=labels, task="multi-label-classification")

    async def run() -> None:
        async with predicting() as predictor:
            for model, top_k, param, mend in (
                ("one", 300, "top_k", "at most 666 inputs, or ask for a top_k of at most 200"),
                ("many", 1, "inputs", "at most 666 inputs"),
            ):
                with pytest.raises(InvalidInput, match=f"300000 scores, at most 200000.*{mend}") as caught:
                    await predictor.predict(call(acme, model, ["?"] * 1_000, top_k))
                assert caught.value.param == param
                assert passes(predictor) == 0
            for model, rows, top_k in (("one", 1_000, 200), ("one", 666, 1_000), ("many", 666, 1)):
                answer = await predictor.predict(call(acme, model, ["?"] * rows, top_k))
                assert [len(row["top"]) for row in answer.predictions] == [min(top_k, 300)] * rows
                before = passes(predictor)
                with pytest.raises(InvalidInput):
                    await predictor.predict(call(acme, model, ["?"] * (rows + 1), top_k))
                assert passes(predictor) == before

    asyncio.run(run())
