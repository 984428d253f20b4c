"""Every kind of adapter against the plain network with the same weights written into it."""

from __future__ import annotations

import random as python_random
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from models.artifacts.folder import Artifact
from models.backbones import encoder as encoding
from models.backbones import loading, word_shapes
from models.backbones.encoder import TextEncoder
from models.backbones.text import TextBackbone
from models.backbones.words import WordBackbone
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.passes import answer
from models.serving.errors import ArtifactBroken
from tests.device import DEVICE
from tests.models.learning import inference
from tests.models.serving.conftest import TEXTS, lora_tensors, make_artifact

VERSION = ResolvedVersion(
    customer_id="cus_1",
    model_id="mod_1",
    name="tickets",
    full_name="ft:minilm:acme:tickets",
    number=1,
    artifact_prefix="prefix/",
    manifest_sha256="0" * 64,
    base_model="minilm",
    task="text-classification",
)


def make(backbone: TextBackbone, **parts: Any) -> tuple[Adapter, Artifact]:
    artifact = make_artifact(backbone, **parts)
    return assemble(artifact, VERSION, backbone), artifact


def changed(artifact: Artifact, **changes: Any) -> Artifact:
    """The same weights under another manifest."""
    return replace(artifact, manifest=replace(artifact.manifest, **changes))


@lru_cache
def network_of(backbone: TextBackbone) -> TextEncoder:
    """The base as Hugging Face's own blocks."""
    return backbone.trainable_copy().eval().requires_grad_(False)


def own_blocks(backbone: TextBackbone, first: int, seed: int) -> dict[str, torch.Tensor]:
    """The base's top blocks from `first` on, moved."""
    random = torch.Generator().manual_seed(seed)
    return {
        f"block.{index}.{name}": tensor.cpu() + 0.02 * torch.randn(tensor.shape, generator=random)
        for index, block in enumerate(network_of(backbone).blocks)
        if index >= first
        for name, tensor in block.state_dict().items()
    }


def own_base(backbone: TextBackbone, seed: int) -> dict[str, torch.Tensor]:
    tensors = own_blocks(backbone, 0, seed)
    for name, tensor in network_of(backbone).embeddings.state_dict().items():
        if tensor.is_floating_point():
            tensors[f"embeddings.{name}"] = tensor.cpu() * 1.01
    return tensors


def expected(backbone: TextBackbone, artifact: Artifact, texts: list[str]) -> np.ndarray[Any, Any]:
    """Probabilities from the Hugging Face blocks themselves, with the adapter merged into the weights."""
    network = backbone.trainable_copy().eval().requires_grad_(False)
    for name, tensor in artifact.tensors.items():
        if name.startswith("lora.") and name.endswith(".A"):
            _, block, module = name.removesuffix(".A").split(".", 2)
            up = artifact.tensors[f"lora.{block}.{module}.B"]
            layer: Any = network.blocks[int(block)].get_submodule(module)
            layer.weight += (up @ tensor).to(DEVICE)
        elif name.startswith("block."):
            _, block, parameter = name.split(".", 2)
            network.blocks[int(block)].get_parameter(parameter).copy_(tensor)
        elif name.startswith("embeddings."):
            network.embeddings.get_parameter(name.removeprefix("embeddings.")).copy_(tensor)
    batch = backbone.collate(backbone.tokenize(texts))
    found = encoding.features(network, batch, artifact.manifest.features)
    features = torch.cat([found[name] for name in artifact.manifest.features], dim=1).cpu()
    logits = features @ artifact.tensors["head.weight"].T + artifact.tensors["head.bias"]
    probabilities: np.ndarray[Any, Any] = torch.softmax(logits, dim=1).numpy()
    return probabilities


def adapters_of_every_kind(backbone: TextBackbone) -> list[tuple[Adapter, Artifact]]:
    return [
        make(backbone, seed=1),
        make(backbone, seed=2, features=("mean.3", "max.6"), labels=[f"label {at}" for at in range(20)]),
        make(backbone, seed=3, more=lora_tensors(3)),
        make(backbone, seed=4, more=lora_tensors(4, modules=("attention.self.query", "attention.self.value"))),
        make(backbone, seed=5, more=lora_tensors(5, rank=4), features=("cls.2", "mean.6")),
        make(backbone, seed=6, more=lora_tensors(6)),
        make(backbone, seed=7, more=own_blocks(backbone, 4, 7), features=("mean.4", "mean.6")),
        make(backbone, seed=8, more=own_blocks(backbone, 5, 8)),
        make(backbone, seed=9, more=own_blocks(backbone, 4, 9), features=("mean.2", "cls.6")),
        make(backbone, seed=10, more=own_base(backbone, 10), features=("mean.0", "mean.6")),
        make(backbone, seed=11, features=("unit_mean.2", "unit_max.6")),
    ]


def test_each_kind_alone_is_the_merged_network(backbone: TextBackbone) -> None:
    for adapter, artifact in adapters_of_every_kind(backbone):
        outputs = answer(backbone, backbone.tokenize(TEXTS), [adapter] * len(TEXTS))
        np.testing.assert_allclose(np.stack(outputs), expected(backbone, artifact, TEXTS), atol=2e-4)


def test_a_base_without_the_fast_path_answers_the_same(backbone: TextBackbone) -> None:
    plain = loading.load(backbone.entry, device=DEVICE, precision="fp32", threads=1)
    plain.network = network_of(backbone)  # type: ignore[attr-defined]  # as of any architecture but BERT
    fast, slow = adapters_of_every_kind(backbone), adapters_of_every_kind(plain)
    tokens = [ids for ids in backbone.tokenize(TEXTS) for _ in fast]
    ours = answer(backbone, tokens, [adapter for adapter, _ in fast] * len(TEXTS))
    theirs = answer(plain, tokens, [adapter for adapter, _ in slow] * len(TEXTS))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_all_kinds_in_one_batch_get_what_each_gets_alone(backbone: TextBackbone) -> None:
    kinds = adapters_of_every_kind(backbone)
    alone = {id(adapter): answer(backbone, backbone.tokenize(TEXTS), [adapter] * len(TEXTS)) for adapter, _ in kinds}
    rows = [(adapter, at) for adapter, _ in kinds for at in range(len(TEXTS))]
    python_random.Random(0).shuffle(rows)
    mixed = answer(backbone, backbone.tokenize([TEXTS[at] for _, at in rows]), [adapter for adapter, _ in rows])
    for (adapter, at), output in zip(rows, mixed, strict=True):
        np.testing.assert_allclose(output, alone[id(adapter)][at], atol=1e-4)


def test_one_low_rank_adapter_among_others_is_the_merged_network(backbone: TextBackbone) -> None:
    often, artifact = make(backbone, seed=1, more=lora_tensors(1))
    rare, _ = make(backbone, seed=2, more=lora_tensors(2, rank=4))
    plain, _ = make(backbone, seed=3)
    texts = TEXTS * 4  # rows of one length and one adapter lie next to each other
    owners = [rare if at == 3 else plain if at == 12 else often for at in range(len(texts))]
    mixed = answer(backbone, backbone.tokenize(texts), owners)
    merged = expected(backbone, artifact, texts)
    for owner, output, right in zip(owners, mixed, merged, strict=True):
        if owner is often:
            np.testing.assert_allclose(output, right, atol=2e-4)


def test_in_bf16_neighbours_change_little(backbone: TextBackbone) -> None:
    fast = loading.load(backbone.entry, device=DEVICE, precision="bf16", threads=1)
    kinds = [make(fast, seed=seed, temperature=10.0, more=lora_tensors(seed)) for seed in range(4)]
    kinds += [make(fast, seed=9, temperature=10.0), make(fast, seed=8, temperature=10.0, more=own_blocks(fast, 4, 8))]
    rows = [(adapter, at) for adapter, _ in kinds for at in range(len(TEXTS))]
    tokens = fast.tokenize([TEXTS[at] for _, at in rows])
    mixed = answer(fast, tokens, [adapter for adapter, _ in rows])
    for (adapter, _), ids, output in zip(rows, tokens, mixed, strict=True):
        np.testing.assert_allclose(output, answer(fast, [ids], [adapter])[0], atol=0.02)


def test_what_does_not_fit_is_a_broken_artifact(backbone: TextBackbone) -> None:
    artifact = make_artifact(backbone)
    wrong = [
        changed(artifact, features=("mean.6", "max.6")),
        changed(artifact, labels=("billing", "card")),
        changed(artifact, task="fortune-telling"),
        changed(artifact, base_revision="another one"),
        replace(artifact, parts=()),
    ]
    for one in wrong:
        with pytest.raises(ArtifactBroken):
            assemble(one, VERSION, backbone)


def test_an_adapter_counts_the_bytes_that_it_holds(backbone: TextBackbone) -> None:
    head, _ = make(backbone)
    lora, _ = make(backbone, more=lora_tensors(1))
    partial, _ = make(backbone, more=own_blocks(backbone, 5, 1))
    full, _ = make(backbone, more=own_base(backbone, 1))
    parameters = sum(tensor.numel() for tensor in network_of(backbone).blocks[5].state_dict().values())
    assert 4 * 3 * (backbone.width + 1) < head.nbytes < 4 * 3 * (backbone.width + 1) + 8_192
    assert lora.nbytes > head.nbytes + 4 * sum(tensor.numel() for tensor in lora_tensors(1).values()) - 1
    assert partial.nbytes == pytest.approx(head.nbytes + 4 * parameters)
    whole = sum(tensor.numel() for tensor in network_of(backbone).state_dict().values() if tensor.is_floating_point())
    assert full.nbytes == pytest.approx(head.nbytes + 4 * whole, rel=0.05)


def test_a_base_of_its_own_is_counted_once(backbone: TextBackbone) -> None:
    head, _ = make(backbone)
    adapter, _ = make(backbone, more=own_base(backbone, 3))
    assert adapter.encoder is not None
    assert adapter.blocks is None
    assert adapter.nbytes == head.nbytes + adapter.encoder.nbytes


def test_a_text_without_words_alone_in_a_pass(backbone: TextBackbone) -> None:
    head = {"head.weight": torch.randn(5, backbone.width), "head.bias": torch.zeros(5)}
    parts = {"task": "token-classification", "labels": ("city", "name"), "features": ("word.6",)}
    adapter, _ = make(backbone, **parts, more=head)
    (alone,) = answer(backbone, tokenize(backbone, ["\u00ad"], ["words"]), [adapter])
    beside, _ = answer(backbone, tokenize(backbone, ["\u00ad", "a word"], ["words"] * 2), [adapter] * 2)
    assert alone.shape == beside.shape == (0, 5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_words_of_a_part_of_a_batch(backbone: TextBackbone, precision: str) -> None:
    """Taggers with own blocks, with low-rank matrices and with neither, alone and beside each other."""
    base = loading.load(backbone.entry, device=DEVICE, precision=precision, threads=1)
    assert isinstance(base, TextBackbone)
    names = ("word.5", "before.5", "word.0", "shape.0", "shape_after.0")
    tagged = {"task": "token-classification", "labels": ("city", "name"), "features": names}
    head = {"head.weight": torch.randn(5, 3 * backbone.width + 2 * word_shapes.WIDTH), "head.bias": torch.zeros(5)}
    texts = [" ".join(["Words", "and", "more", "of", "them", "to", "be", "tagged"][:count]) for count in range(1, 9)]
    made = [
        make(base, **tagged, more={**head, **more})
        for more in (own_blocks(base, 4, 1), lora_tensors(2), {}, own_blocks(base, 5, 3))
    ]
    rows = [(text, adapter, artifact) for text in texts for adapter, artifact in made]
    ids = tokenize(base, [text for text, *_ in rows], ["words"] * len(rows))
    mixed = answer(base, ids, [adapter for _, adapter, _ in rows])
    for (text, adapter, artifact), row, output in zip(rows, ids, mixed, strict=True):
        (alone,) = answer(base, [row], [adapter])
        logits_WK = torch.from_numpy(inference.logits(artifact, WordBackbone(base), [text]))
        right_WK = torch.softmax(logits_WK, dim=1).numpy()
        assert output.shape == right_WK.shape
        for found in (output, alone):
            np.testing.assert_allclose(found, right_WK, atol=1e-3 if precision == "fp32" else 0.35)
