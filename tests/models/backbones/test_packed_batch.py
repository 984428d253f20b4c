"""Where rows lie in a batch that is filled up, and that nothing which fills it up is ever seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones.packed import PackedEncoder
from models.backbones.packed_batch import pack, pool, select
from models.backbones.text import TextBackbone
from models.datasets.examples import TextPair

ROWS = [np.arange(5, 5 + length, dtype=np.int32) for length in (9, 3, 3, 14, 2)]


@pytest.mark.parametrize(("grain", "tokens"), [(1, 31), (4, 32), (16, 32), (64, 64)])
def test_a_batch_is_filled_up_to_its_grain(grain: int, tokens: int) -> None:
    batch = pack(ROWS, grain=grain)
    assert (batch.tokens, batch.used) == (tokens, 31)
    for row, caller in enumerate(batch.order):
        assert batch.ids_N[list(batch.span(row))].tolist() == ROWS[caller].tolist()
        assert batch.positions_N[list(batch.span(row))].tolist() == list(range(len(ROWS[caller])))


def test_batches_of_many_lengths_have_few_sizes() -> None:
    sizes = {pack([np.ones(length, dtype=np.int32)], grain=16).tokens for length in range(1, 4_097)}
    assert len(sizes) == 512 // 16 + (4_096 - 512) // 64


def test_a_part_is_filled_up_as_the_whole_was() -> None:
    batch = pack(ROWS, grain=16)
    hidden_ND = torch.arange(batch.tokens, dtype=torch.float32)[:, None].expand(-1, 8)
    chosen = [1, 3]
    hidden_MD, part = select(hidden_ND, batch, chosen)
    assert len(hidden_MD) == part.tokens == 16
    for at, row in enumerate(chosen):
        assert hidden_MD[list(part.span(at)), 0].tolist() == list(batch.span(row))


@pytest.mark.parametrize("grain", [4, 16, 64])
def test_what_fills_up_changes_no_feature(exact_backbone: TextBackbone, grain: int) -> None:
    texts = ["one", "a pair of words", TextPair("first here", "and a second"), TextPair("x", "a longer one of the two")]
    encoder = exact_backbone.packed
    assert isinstance(encoder, PackedEncoder)
    rows = exact_backbone.tokenize(texts)
    found = []
    with torch.inference_mode():
        for filled in (1, grain):
            batch = pack(rows, separator=encoder.separator, device=encoder.device, grain=filled)
            assert batch.types_N is not None
            assert batch.tokens % filled == 0
            hidden_ND, _ = encoder.run(batch, encoder.embed(batch), 0, exact_backbone.blocks)
            assert hidden_ND.isfinite().all()
            found.append([pool(hidden_ND, batch, kind) for kind in ("mean", "max", "cls")])
    for plain, filled_up in zip(*found, strict=True):
        torch.testing.assert_close(filled_up, plain, atol=2e-6, rtol=1e-5)
