"""Versions with an n-gram head, beside those without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.artifacts.folder import Artifact
from models.artifacts.parts import pack, unpack
from models.backbones.text import TextBackbone
from models.learning.heads import ngrams
from models.learning.heads.ngram_head import NgramHead, NgramVocabulary
from models.records.customers import Customer
from models.serving.adapters.assembly import assemble
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.passes import answer
from models.serving.errors import ArtifactBroken
from tests.models.learning import inference
from tests.models.serving.conftest import TEXTS, call, lora_tensors, make_artifact
from tests.models.serving.encoders.test_passes import VERSION, make, own_base, own_blocks


def ngram_tensors(seed: int, *, outputs: int = 3) -> dict[str, torch.Tensor]:
    """Random weights on the n-grams of every other text."""
    random = np.random.default_rng(seed)
    vocabulary = NgramVocabulary.learn(ngrams.read(TEXTS[::2]), outputs=outputs)
    weight_VK = random.normal(size=(len(vocabulary.buckets_V), outputs)).astype(np.float16)
    return pack([NgramHead(vocabulary, weight_VK, np.zeros(outputs, dtype=np.float32), factor=3.0).weights()])


def test_served_as_it_was_measured(backbone: TextBackbone) -> None:
    for seed, more in enumerate(({}, lora_tensors(1), own_blocks(backbone, 4, 2), own_base(backbone, 3))):
        adapter, artifact = make(backbone, temperature=1.7, more={**more, **ngram_tensors(seed)})
        assert adapter.input_mode == "ngrams"
        rows = tokenize(backbone, TEXTS, ["ngrams"] * len(TEXTS))
        outputs = answer(backbone, rows, [adapter] * len(TEXTS))
        logits = inference.logits(artifact, backbone, TEXTS)
        expected = torch.softmax(torch.from_numpy(logits) / 1.7, dim=1).numpy()
        np.testing.assert_allclose(np.stack(outputs), expected, atol=2e-4)
        bare, _ = make(backbone, temperature=1.7, more=more)
        without = answer(backbone, backbone.tokenize(TEXTS), [bare] * len(TEXTS))
        assert np.abs(np.stack(without) - expected).max() > 0.01


def test_in_a_batch_with_others_each_gets_what_it_gets_alone(backbone: TextBackbone) -> None:
    adapters = [
        make(backbone, seed=1)[0],
        make(backbone, seed=2, more=ngram_tensors(2))[0],
        make(backbone, seed=3, labels=["a", "b", "c", "d", "e"], more=ngram_tensors(3, outputs=5))[0],
        make(backbone, seed=4, task="multi-label-classification", more=ngram_tensors(4))[0],
        make(backbone, seed=5, more={**lora_tensors(5), **ngram_tensors(5)})[0],
        make(backbone, seed=6, features=("mean.3", "max.6"))[0],
    ]
    order = np.random.default_rng(0).permutation(len(adapters) * len(TEXTS))
    owners = [adapters[at % len(adapters)] for at in order]
    texts = [TEXTS[at // len(adapters)] for at in order]
    mixed = answer(backbone, tokenize(backbone, texts, [owner.input_mode for owner in owners]), owners)
    for text, owner, output in zip(texts, owners, mixed, strict=True):
        (alone,) = answer(backbone, tokenize(backbone, [text], [owner.input_mode]), [owner])
        np.testing.assert_allclose(output, alone, atol=1e-4)


def test_its_bytes_are_counted(backbone: TextBackbone) -> None:
    more = ngram_tensors(1)
    head, both = make(backbone)[0], make(backbone, more=more)[0]
    held = sum(tensor.nbytes for name, tensor in more.items() if name != "lexical.factor")
    assert both.nbytes == head.nbytes + held


def test_a_part_that_does_not_fit_is_a_broken_artifact(backbone: TextBackbone) -> None:
    artifact = make_artifact(backbone, more=ngram_tensors(1))
    for name, tensor in (
        ("lexical.weight", artifact.tensors["lexical.weight"][:, :2]),
        ("lexical.idf", artifact.tensors["lexical.idf"][1:]),
        ("lexical.buckets", artifact.tensors["lexical.buckets"].flip(0)),
    ):
        broken = Artifact(artifact.manifest, unpack({**artifact.tensors, name: tensor.contiguous()}))
        with pytest.raises(ArtifactBroken):
            assemble(broken, VERSION, backbone)


def test_predicting_for_two_customers_at_once(
    customer: Callable[..., Customer], publish: Callable[..., Any], predicting: Any, minilm: TextBackbone
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    publish(acme, seed=1)
    publish(zeta, seed=1, more=ngram_tensors(1))
    kinds: list[dict[str, torch.Tensor]] = [{}, ngram_tensors(1)]
    expected = [inference.predict(make_artifact(minilm, seed=1, more=more), minilm, TEXTS) for more in kinds]

    async def run() -> None:
        async with predicting() as predictor:
            answers = await asyncio.gather(*(predictor.predict(call(who)) for who in (acme, zeta) * 4))
        for at, found in enumerate(answers):
            for mine, other in zip(found.predictions, expected[at % 2], strict=True):
                assert mine["label"] == other["label"]
                assert mine["score"] == pytest.approx(other["score"], abs=1e-3)

    asyncio.run(run())
