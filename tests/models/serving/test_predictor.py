from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifacts.folder import read_artifact
from models.backbones.text import TextBackbone
from models.errors import NotFound
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import catalog, usage
from models.services.errors import ModelNotReady
from models.services.resources import Resources
from models.serving.errors import InvalidInput
from tests.models.learning import inference
from tests.models.serving.conftest import TEXTS, call, until

Publish = Callable[..., ModelVersion]


def expected_scores(backbone: TextBackbone, texts: list[str], features: list[str], seed: int, labels: int) -> Any:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(labels, len(features) * 384, generator=random)
    bias = torch.randn(labels, generator=random)
    return torch.softmax(torch.from_numpy(backbone.encode(texts, features)) @ weight.T + bias, dim=1).numpy()


def test_answers_are_those_of_the_trained_features_in_the_order_of_the_inputs(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, backbone: TextBackbone
) -> None:
    acme = customer("acme")
    publish(acme, seed=3)

    async def run() -> None:
        async with predicting() as predictor:
            answer = await predictor.predict(call(acme))
            assert (answer.full_name, answer.version, answer.task) == (
                "ft:minilm:acme:tickets",
                1,
                "text-classification",
            )
            assert answer.usage["rows"] == len(TEXTS)
            assert answer.usage["tokens"] == sum(len(row) for row in backbone.tokenize(TEXTS))
            assert set(answer.timings) == {"queue", "tokenize", "compute", "total"}
            scores = expected_scores(backbone, TEXTS, ["mean.6"], 3, 3)
            labels = ["billing", "card", "login"]
            for prediction, row in zip(answer.predictions, scores, strict=True):
                assert prediction["label"] == labels[row.argmax()]
                got = {top["label"]: top["score"] for top in prediction["top"]}
                assert [got[label] for label in labels] == pytest.approx(row.tolist(), abs=1e-5)
                assert [top["score"] for top in prediction["top"]] == sorted(got.values(), reverse=True)

    asyncio.run(run())


def test_mixed_customers_get_what_each_gets_alone(
    customer: Callable[..., Customer], publish: Publish, predicting: Any
) -> None:
    shapes: list[dict[str, Any]] = [
        {"labels": [f"l{at}" for at in range(2 + 7 * number)], "features": features, "seed": number}
        for number, features in enumerate([("mean.6",), ("max.3", "mean.6"), ("cls.0", "mean.2", "max.6"), ("mean.6",)])
    ]
    shapes.append(
        {"labels": ["a", "b", "c"], "task": "multi-label-classification", "seed": 9, "thresholds": [0.1, 0.9, 0.5]}
    )
    customers = [customer() for _ in shapes]
    for owner, shape in zip(customers, shapes, strict=True):
        publish(owner, **shape)

    async def run() -> None:
        async with predicting() as predictor:
            alone = [await predictor.predict(call(owner, top_k=99)) for owner in customers]
            before = predictor_passes(predictor)
            asked = [(owner, at) for owner in range(len(customers)) for at in range(3)]
            mixed = await asyncio.gather(
                *(predictor.predict(call(customers[owner], inputs=TEXTS[at : at + 1], top_k=99)) for owner, at in asked)
            )
            assert predictor_passes(predictor) - before < len(mixed)  # they rode together
            for (owner, at), answer in zip(asked, mixed, strict=True):
                assert_same(answer.predictions, alone[owner].predictions[at : at + 1])

    asyncio.run(run())


def predictor_passes(predictor: Any) -> int:
    return sum(runner.engine.passes for runner in predictor.runners())


def assert_same(left: list[dict[str, Any]], right: list[dict[str, Any]], *, tolerance: float = 1e-5) -> None:
    for one, other in zip(left, right, strict=True):
        ours = {top["label"]: top["score"] for top in one["top"]}
        theirs = {top["label"]: top["score"] for top in other["top"]}
        assert ours == pytest.approx(theirs, abs=tolerance)


def test_temperature_softens_and_multi_label_uses_its_thresholds(
    customer: Callable[..., Customer], publish: Publish, predicting: Any
) -> None:
    acme = customer()
    publish(acme, "sharp", seed=1)
    publish(acme, "soft", seed=1, temperature=50.0)
    publish(acme, "many", seed=1, task="multi-label-classification", thresholds=[0.0, 1.1, 0.5])

    async def run() -> None:
        async with predicting() as predictor:
            sharp = await predictor.predict(call(acme, "sharp"))
            soft = await predictor.predict(call(acme, "soft"))
            many = await predictor.predict(call(acme, "many"))
            assert [one["label"] for one in sharp.predictions] == [one["label"] for one in soft.predictions]
            assert max(one["score"] for one in soft.predictions) < min(one["score"] for one in sharp.predictions)
            for prediction in many.predictions:
                assert "billing" in prediction["labels"]
                assert "card" not in prediction["labels"]
                assert ("login" in prediction["labels"]) == (prediction["scores"]["login"] >= 0.5)

    asyncio.run(run())


def test_promotion_roll_back_and_deletion_reach_the_predictor(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, resources: Resources
) -> None:
    acme = customer()
    publish(acme, seed=1)

    async def run() -> None:
        async with predicting() as predictor:
            assert (await predictor.predict(call(acme))).version == 1
            await asyncio.to_thread(publish, acme, seed=2)
            await asyncio.to_thread(catalog.set_alias, resources, acme.id, "tickets", "live", 2)

            async def until_version(number: int) -> None:
                async with asyncio.timeout(10):
                    while (await predictor.predict(call(acme))).version != number:
                        await asyncio.sleep(0.02)

            await until_version(2)
            assert (await predictor.predict(call(acme, "tickets@1"))).version == 1
            await asyncio.to_thread(catalog.roll_back, resources, acme.id, "tickets", "live")
            await until_version(1)

    asyncio.run(run())


def test_what_is_not_there_is_said(customer: Callable[..., Customer], publish: Publish, predicting: Any) -> None:
    acme, other = customer("acme"), customer("other")
    publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            with pytest.raises(NotFound):
                await predictor.predict(call(other))
            with pytest.raises(NotFound):
                await predictor.predict(call(other, "ft:minilm:acme:tickets"))
            with pytest.raises(NotFound):
                await predictor.predict(call(acme, "tickets@7"))
            for bad, param in (
                (["fine", 3], "inputs[1]"),
                (["  "], "inputs[0]"),
                ([], "inputs"),
                ([None], "inputs[0]"),
            ):
                with pytest.raises(InvalidInput) as caught:
                    await predictor.predict(call(acme, inputs=bad))
                assert caught.value.param == param

    asyncio.run(run())


def test_a_model_without_a_version_names_its_job(
    customer: Callable[..., Customer], predicting: Any, resources: Resources, unpublished: Callable[[Customer], str]
) -> None:
    acme = customer()
    job_id = unpublished(acme)

    async def run() -> None:
        async with predicting() as predictor:
            with pytest.raises(ModelNotReady, match=job_id):
                await predictor.predict(call(acme))

    asyncio.run(run())


def test_usage_is_flushed_at_close(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, resources: Resources, backbone: TextBackbone
) -> None:
    acme, other = customer(), customer()
    publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            for _ in range(3):
                await predictor.predict(call(acme))
            await predictor.embed(TEXTS, "minilm", customer_id=other.id)
            assert usage.list_page(resources, acme.id, 0, 1e12).data == []

    asyncio.run(run())
    tokens = sum(len(row) for row in backbone.tokenize(TEXTS))
    (theirs,) = usage.list_page(resources, acme.id, 0, 1e12).data
    assert (theirs.requests, theirs.rows, theirs.tokens) == (3, 3 * len(TEXTS), 3 * tokens)
    assert theirs.seconds > 0
    (embedded,) = usage.list_page(resources, other.id, 0, 1e12).data
    assert (embedded.kind, embedded.model, embedded.rows) == ("embedding", "minilm", len(TEXTS))


def test_embeddings_are_normalised_means_of_the_last_layer(
    predicting: Any, backbone: TextBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.datasets.windowing.MOST_TOKENS", 350)

    async def run() -> None:
        async with predicting() as predictor:
            embedded = await predictor.embed(TEXTS, "minilm")
            long = await predictor.embed(["short", "word " * 300, "word " * 351], "minilm")
            plain = backbone.encode(TEXTS, ["mean.6"])
            np.testing.assert_allclose(
                embedded.vectors_ND, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5
            )
            assert embedded.tokens == sum(len(row) for row in backbone.tokenize(TEXTS))
            assert (embedded.truncated, long.truncated) == ((), (2,))
            assert long.tokens == 3 + (300 + 2 * 2) + (350 + 2 * 2)  # two windows each, with two special tokens

    asyncio.run(run())


def test_requests_under_way_are_answered_at_close(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, resources: Resources
) -> None:
    acme = customer()
    publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            await predictor.predict(call(acme))
            calls = [asyncio.create_task(predictor.predict(call(acme, inputs=TEXTS * 6))) for _ in range(4)]
            await until(lambda: predictor_waiting(predictor))
        answers = await asyncio.gather(*calls)
        assert all(len(answer.predictions) == 6 * len(TEXTS) for answer in answers)

    asyncio.run(run())
    (summary,) = usage.list_page(resources, acme.id, 0, 1e12).data
    assert summary.requests == 5


def predictor_waiting(predictor: Any) -> int:
    return sum(runner.waiting_rows for runner in predictor.runners())


def test_bf16_is_close_to_fp32(customer: Callable[..., Customer], publish: Publish, predicting: Any) -> None:
    acme = customer()
    publish(acme, temperature=10.0)

    async def run() -> None:
        async with predicting() as predictor:
            exact = await predictor.predict(call(acme))
        async with predicting(precision="bf16") as predictor:
            fast = await predictor.predict(call(acme))
        assert_same(fast.predictions, exact.predictions, tolerance=0.03)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("task", "strategy"),
    [
        ("text-classification", "head"),
        ("multi-label-classification", "head"),
        pytest.param("text-classification", "lora", marks=pytest.mark.slow),
        pytest.param("text-classification", "partial", marks=pytest.mark.slow),
        pytest.param("text-classification", "full", marks=pytest.mark.slow),
    ],
)
def test_a_trained_version_answers_as_learning_evaluated_it(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    backbone: TextBackbone,
    tmp_path: Path,
    task: str,
    strategy: Strategy,
) -> None:
    column = "label" if task == "text-classification" else "labels"
    rows = [(f"{word} {at} {text}", word) for at, text in enumerate(TEXTS * 2) for word in ("card", "login", "billing")]
    lines = [{"text": text, column: [word] if column == "labels" else word} for text, word in rows]

    def source(name: str, part: list[dict[str, Any]]) -> DatasetSource:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in part))
        return DatasetSource(path, "jsonl", {"text": "text", column: column}, name)

    request = TrainRequest(
        training=source("train", lines[:30]),
        validation=source("held", lines[30:]),  # it makes one trial of four
        task=task,
        output_dir=tmp_path / "out",
        strategy=strategy,
        hyperparameters=Hyperparameters(n_epochs=1),
        precision="fp32",
        threads=1,
    )
    events = list(train(request, backbone, stop=lambda: False))
    candidate = next(event for event in events if isinstance(event, VersionReady) and event.name == strategy)
    acme = customer()
    publish(acme, folder=candidate.artifact_dir)
    theirs = inference.predict(read_artifact(candidate.artifact_dir), backbone, TEXTS, top_k=3)

    async def run() -> None:
        async with predicting() as predictor:
            ours = (await predictor.predict(call(acme))).predictions
            assert [set(one) for one in ours] == [set(one) for one in theirs]
            chosen = [one.get("label", one.get("labels")) for one in theirs]
            assert [one.get("label", one.get("labels")) for one in ours] == chosen
            assert_same(ours, theirs)

    asyncio.run(run())
