"""What trains: activations that are computed again give the gradients of those that were kept."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from models.artifacts.prompt import Prompt
from models.datasets.examples import Answer, Conversation
from models.learning.contract.errors import Stopped
from models.learning.generation import network, packing, rows, token_losses

PLAIN = Prompt()


def _packed(writer):
    tokens = [
        rows.encode(
            writer,
            Conversation(json.dumps([{"role": "user", "content": "q" * length}])),
            Answer("a" * (length % 3 + 1)),
            PLAIN,
        )
        for length in (2, 5, 9)
    ]
    return packing.pack(tokens, rows.shared_prefix(tokens), writer.device)


def _gradients(fitted, packed):
    losses_M, _ = fitted.losses(packed)
    return dict(zip(fitted.values, torch.autograd.grad(losses_M.sum(), list(fitted.values.values())), strict=True))


@pytest.mark.parametrize("whole_blocks", [False, True])
def test_gradient_checkpointing_changes_no_gradient(writer, monkeypatch, whole_blocks):
    fitted = network.own_blocks(writer, 2) if whole_blocks else network.low_rank(writer, 4, seed=0)
    if not whole_blocks:  # matrices that add nothing yet would hide half of the gradients
        for value in fitted.values.values():
            value.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    packed = _packed(writer)
    kept = _gradients(fitted, packed)
    calls: list[int] = []
    one = network.WritingNetwork._one

    def counted(self, packed, attend, hidden_ND, block):
        calls.append(block)
        return one(self, packed, attend, hidden_ND, block)

    monkeypatch.setattr(network, "_CHECKPOINTED_TOKENS", 1)
    monkeypatch.setattr(network.WritingNetwork, "_one", counted)
    again = _gradients(fitted, packed)
    # Forward, and once more for the gradients; below the blocks that train there are none.
    assert calls == [0, 1, 2, 2, 1] + ([] if whole_blocks else [0])
    for name, gradient in kept.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_long_pass_asks_in_every_block_whether_to_stop(writer):
    asked: list[bool] = []

    def stop():
        asked.append(len(asked) == writer.blocks - 1)
        return asked[-1]

    with pytest.raises(Stopped):
        network.frozen(writer).losses(_packed(writer), stop=stop)
    assert asked == [False, False, True]


def test_losses_in_slices_are_those_of_all_tokens_at_once(writer, monkeypatch):
    """Losses and gradients, whatever a loss counts; the same bits again."""
    fitted = network.low_rank(writer, 4, seed=0)
    for value in fitted.values.values():
        value.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    packed, values = _packed(writer), list(fitted.values.values())
    monkeypatch.setattr(token_losses, "_SLICE", 4)

    def differentiate(losses_M):
        counts_M = torch.linspace(-1, 2, len(losses_M))
        return torch.autograd.grad((losses_M * counts_M).sum(), values)

    scores_MV = writer.network.logits(fitted.hidden(packed)).float()
    at_once_M = F.cross_entropy(scores_MV, packed.targets_M, reduction="none")
    assert len(at_once_M) % 4
    losses_M, first_M = fitted.losses(packed)
    torch.testing.assert_close(losses_M, at_once_M, rtol=1e-5, atol=1e-6)
    assert torch.equal(first_M, scores_MV.argmax(-1) == packed.targets_M)
    expected, found, again = (differentiate(each) for each in (at_once_M, losses_M, fitted.losses(packed)[0]))
    for one, other, repeated in zip(expected, found, again, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))
        assert torch.equal(other, repeated)
    with torch.no_grad():
        assert torch.equal(fitted.losses(packed)[0], losses_M.detach())
