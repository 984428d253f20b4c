"""AdamW's rate and its state: taken up again it goes on with the same bits, on the device of the values."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from models.learning import adamw


def _optimizer(values: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(list(values.values()), lr=0.1, fused=True)


def _step(values: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    for value in values.values():
        value.grad = torch.cos(value.detach())
    optimizer.step()


def test_a_restored_optimizer_goes_on_with_the_same_bits() -> None:
    turned = torch.arange(96.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    values = {"a": torch.arange(4.0), "b": torch.ones(2, 3), "turned": turned}
    optimizer = _optimizer(values)
    for _ in range(3):
        _step(values, optimizer)
    # As a file has them.
    taken = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in adamw.capture(values, optimizer).items()
    }
    again = {name: torch.zeros_like(value) for name, value in values.items()}
    restored = _optimizer(again)
    adamw.restore(again, restored, taken)
    for _ in range(2):
        _step(values, optimizer)
        _step(again, restored)
    assert all(torch.equal(again[name], value) for name, value in values.items())


def test_all_of_the_state_lies_where_the_values_are() -> None:
    here = {"a": torch.ones(4)}
    optimizer = _optimizer(here)
    _step(here, optimizer)
    there = {"a": torch.empty(4, device="meta")}  # as on a GPU: a fused kernel reads its own device's count of steps
    restored = _optimizer(there)
    adamw.restore(there, restored, adamw.capture(here, optimizer))
    assert {tensor.device.type for tensor in restored.state[there["a"]].values()} == {"meta"}


@pytest.mark.parametrize(("step", "share"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)])
def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine(step: int, share: float) -> None:
    assert adamw.share_of_rate(step, 20, warm_up=4) == pytest.approx(share)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("turned", ["gradients", "values"])
def test_gradients_may_lie_in_memory_otherwise_than_their_values(turned: str, shards: int) -> None:
    found = []
    for memory in (torch.contiguous_format, torch.channels_last):
        weight = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4) / 100
        gradients = [torch.cos(9 * weight + shard) for shard in range(shards)]  # of both signs
        if turned == "values":
            weight = weight.to(memory_format=memory)
        else:
            gradients = [gradient.to(memory_format=memory) for gradient in gradients]
        values = {"weight": weight}
        optimizer = _optimizer(values)
        adamw.update(optimizer, [weight], [[gradient] for gradient in gradients], clip=1.0)
        found.append(weight)
    torch.testing.assert_close(found[1].contiguous(), found[0])
