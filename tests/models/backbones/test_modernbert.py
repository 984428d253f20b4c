"""ModernBERT: its features are those of transformers' own pass, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones import loading, sizes
from models.backbones.modernbert import RotaryTextEncoder
from models.backbones.text import TextBackbone
from models.datasets.examples import TextPair
from tests.device import DEVICE
from tests.models.backbones import text_checkpoints

# Longer than what a local block sees, and shorter.
TEXTS = ["hello", "my card has not arrived yet, where is it?", "no", "a b c d e f g h i j k l m n o p q r s t u", "?"]
BLOCKS = 5  # global, local, local, global, local


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> TextBackbone:
    entry = text_checkpoints.write_modern(tmp_path_factory.mktemp("modern"), blocks=BLOCKS)
    found = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    assert isinstance(found, TextBackbone)
    return found


def test_features_at_every_depth_are_those_of_the_model_itself(modern: TextBackbone) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = modern.entry.source.path  # type: ignore[union-attr]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for depth in range(BLOCKS + 1):
        expected = []
        for text in TEXTS:  # one by one: nothing is padded
            with torch.no_grad():
                states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            state = states.last_hidden_state if depth == BLOCKS else states.hidden_states[depth]
            expected.append(torch.cat([state[0].mean(0), state[0].amax(0), state[0, 0]]))
        found = modern.encode(TEXTS, [f"mean.{depth}", f"max.{depth}", f"cls.{depth}"])
        np.testing.assert_allclose(found, torch.stack(expected).numpy(), atol=1e-4)


def test_padding_changes_nothing(modern: TextBackbone) -> None:
    names = [f"{kind}.{BLOCKS}" for kind in ("mean", "max", "cls")]
    together = modern.encode(TEXTS, names)
    assert np.isfinite(together).all()
    assert np.ptp(together, axis=0).max() > 0.1  # the texts do differ
    for at, text in enumerate(TEXTS):
        np.testing.assert_allclose(modern.encode([text], names)[0], together[at], atol=1e-5)


def test_what_is_far_is_seen_by_global_blocks_only(modern: TextBackbone) -> None:
    network = modern.network
    assert isinstance(network, RotaryTextEncoder)
    near, far = (
        modern.collate(modern.tokenize(["abcdefghijklmnop"])),
        modern.collate(modern.tokenize(["abcdefghijklmnoz"])),
    )
    start = network.embed(near), network.embed(far)
    for depth, differs in ((0, True), (1, False)):
        first, second = (network.run(near, hidden, depth, depth + 1)[0][0, 1] for hidden in start)
        assert bool((first - second).abs().max() > 1e-6) == differs


def test_gradients_pass_through_batches_that_are_computed_again(modern: TextBackbone) -> None:
    fresh = modern.trainable_copy().eval()
    batch = modern.collate(modern.tokenize(TEXTS * 40))
    assert batch.ids_BT.numel() > 4_608
    hidden, _ = fresh.run(batch, fresh.embed(batch), 0, BLOCKS)
    fresh.pool(hidden, batch, "mean").square().mean().backward()
    assert all(parameter.grad is not None for parameter in fresh.parameters())
    with torch.no_grad():
        kept, _ = fresh.run(batch, fresh.embed(batch), 0, BLOCKS)
    torch.testing.assert_close(hidden[batch.mask_BT], kept[batch.mask_BT], atol=1e-5, rtol=1e-5)


def test_reduced_precision_keeps_angles_exact(modern: TextBackbone) -> None:
    reduced = loading.load(modern.entry, device=DEVICE, precision="bf16", threads=1)
    left, right = (base.encode(TEXTS, [f"mean.{BLOCKS}"]) for base in (modern, reduced))
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert cosine.min() > 0.998
    assert isinstance(reduced.network, RotaryTextEncoder)
    assert {value.dtype for value in reduced.network._rotary[0].buffers()} == {torch.float32}


def test_sizes_and_pairs(modern: TextBackbone) -> None:
    found = sizes.read(modern.entry.source.path)  # type: ignore[union-attr]
    assert (found["width"], found["blocks"], found["linear"]) == (modern.width, BLOCKS, True)
    assert found["max_tokens"] == text_checkpoints.MAX_TOKENS
    batch = modern.collate(modern.tokenize([TextPair("a b", "c")]))
    assert batch.types_BT is None  # it has no segments
