"""Values, pairs and spans out of the predictor: as learning says them, whoever else is in the batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import read_artifact
from models.backbones.text import TextBackbone
from models.datasets.examples import TextPair
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.serving.errors import InvalidInput
from tests.models.learning import inference
from tests.models.learning.generated import nearness, places
from tests.models.serving.conftest import TEXTS, call

Publish = Callable[..., ModelVersion]
ROWS: dict[str, list[dict[str, Any]]] = {
    "pairs": nearness(40, seed=0),
    "values": [{"text": row["text"], "value": row["value"]} for row in nearness(40, seed=1)],
    "times": [{"text": row["text"], "value": 1.7e9 + row["value"]} for row in nearness(40, seed=1)],
    "spans": places(40, seed=0),
}
TASKS = {
    "pairs": "text-regression",
    "values": "text-regression",
    "times": "text-regression",
    "spans": "token-classification",
}


def learn(backbone: TextBackbone, kind: str, strategy: Strategy, folder: Path) -> Path:
    """The artifact of the strategy's version."""
    rows = ROWS[kind]
    data = folder / f"{kind}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    request = TrainRequest(
        DatasetSource(data, "jsonl", {column: column for column in rows[0]}),
        TASKS[kind],
        folder / f"{kind}-{strategy}",
        strategy=strategy,
        hyperparameters=Hyperparameters(n_epochs=1, lora_rank=2, trainable_blocks=2, batch_size=16),
        threads=1,
    )
    found = [event for event in train(request, backbone, stop=lambda: False) if isinstance(event, VersionReady)]
    return next(event.artifact_dir for event in found if event.name == strategy)


def inputs(kind: str) -> list[Any]:
    """As they are sent, of other rows than those of the training."""
    if kind == "spans":
        return [row["text"] for row in places(12, seed=5)]
    rows = nearness(12, seed=5)
    return [{"text": row["text"], "text_pair": row["text_pair"]} if kind == "pairs" else row["text"] for row in rows]


def expected(folder: Path, backbone: TextBackbone, kind: str) -> list[dict[str, Any]]:
    """What learning says."""
    items = [TextPair(**_named(item)) if isinstance(item, dict) else item for item in inputs(kind)]
    return inference.predict(read_artifact(folder), backbone, items)


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Equal up to rounding."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        if "spans" in one:
            assert [{**span, "score": 0} for span in one["spans"]] == [{**span, "score": 0} for span in other["spans"]]
            scores = [span["score"] for span in one["spans"]]
            assert scores == pytest.approx([span["score"] for span in other["spans"]], abs=1e-3)
        else:
            assert one == pytest.approx(other, abs=2e-3)


@pytest.mark.parametrize(
    "strategy", ["head", *(pytest.param(strategy, marks=pytest.mark.slow) for strategy in ("lora", "partial"))]
)
def test_every_task_as_learning_says_it_and_mixed_in_one_batch(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    backbone: TextBackbone,
    tmp_path: Path,
    strategy: Strategy,
) -> None:
    tenants = {kind: customer(kind) for kind in ROWS}
    folders = {kind: learn(backbone, kind, strategy, tmp_path) for kind in ROWS}
    for kind, tenant in tenants.items():
        publish(tenant, kind, folder=folders[kind])
    other = customer("other")
    publish(other)
    wanted = {kind: expected(folders[kind], backbone, kind) for kind in ROWS}
    # A mean of a billion takes nothing from what the answers differ by.
    assert [answer["value"] - 1.7e9 for answer in wanted["times"]] == pytest.approx(
        [answer["value"] for answer in wanted["values"]], abs=2e-2
    )

    async def run() -> None:
        async with predicting() as predictor:
            label = (await predictor.predict(call(other))).predictions
            for kind, tenant in tenants.items():
                answer = await predictor.predict(call(tenant, kind, inputs(kind), None))
                assert answer.task == TASKS[kind]
                assert_same(answer.predictions, wanted[kind])
            # Everybody at once, some of them twice: rows leave in shared batches.
            calls = [(kind, call(tenants[kind], kind, inputs(kind), None)) for kind in [*ROWS, *ROWS]]
            everybody = [predictor.predict(each) for _, each in calls] + [predictor.predict(call(other))]
            *answers, classified = await asyncio.gather(*everybody)
            for (kind, _), answer in zip(calls, answers, strict=True):
                assert_same(answer.predictions, wanted[kind])
            assert [row["label"] for row in classified.predictions] == [row["label"] for row in label]

    asyncio.run(run())


@pytest.mark.slow
def test_spans_of_many_rows_are_those_of_each_alone(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, backbone: TextBackbone, tmp_path: Path
) -> None:
    acme = customer()
    publish(acme, "spans", folder=learn(backbone, "spans", "head", tmp_path))
    texts = [" ".join(inputs("spans") * repeats) for repeats in (1, 2, 3)] * 5

    async def run() -> None:
        async with predicting() as predictor:
            many = await predictor.predict(call(acme, "spans", [*texts, "\u00ad", *texts], None))
            alone = [(await predictor.predict(call(acme, "spans", [text], None))).predictions[0] for text in texts[:3]]
            assert sum(len(row["spans"]) for row in alone) > 10
            assert_same(many.predictions, [*alone * 5, many.predictions[15], *alone * 5])

    asyncio.run(run())


def test_inputs_are_what_the_model_was_trained_on(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, backbone: TextBackbone, tmp_path: Path
) -> None:
    acme = customer()
    for kind in ("pairs", "values"):
        publish(acme, kind, folder=learn(backbone, kind, "head", tmp_path))

    async def run() -> None:
        async with predicting() as predictor:
            for kind, item, param in (
                ("pairs", "one text", "inputs[1]"),
                ("pairs", {"text": "one"}, "inputs[1]"),
                ("pairs", {"text": "one", "text_pair": ""}, "inputs[1].text_pair"),
                ("pairs", {"text": "one", "text_pair": 2}, "inputs[1].text_pair"),
                ("pairs", {"text": "one", "text_pair": "two", "more": 1}, "inputs[1]"),
                ("values", {"text": "one", "text_pair": "two"}, "inputs[1]"),
            ):
                with pytest.raises(InvalidInput) as caught:
                    await predictor.predict(call(acme, kind, [inputs(kind)[0], item], None))
                assert caught.value.param == param
            answer = await predictor.predict(call(acme, "pairs", inputs("pairs")[:1], None))
            assert answer.usage["tokens"] > len(TEXTS)  # both texts are counted

    asyncio.run(run())


def _named(item: dict[str, str]) -> dict[str, str]:
    return {"first": item["text"], "second": item["text_pair"]}
