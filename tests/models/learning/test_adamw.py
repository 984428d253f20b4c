"""AdamW's rate and its state: taken up again it goes on with the same bits, on the device of the values."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from models.learning.adamw import AdamW, Rate, share_of_rate

RATE = Rate(0.1, weight_decay=0.01)


def _optimizer(values: Mapping[str, Tensor], *, threads: int = 1) -> AdamW:
    return AdamW(values, dict.fromkeys(values, RATE), threads=threads)


def _step(values: Mapping[str, Tensor], optimizer: AdamW) -> None:
    optimizer.update([[torch.cos(value) for value in values.values()]], share=1.0, clip=10.0)


def _values() -> dict[str, Tensor]:
    turned = torch.arange(96.0).reshape(2, 3, 4, 4).to(memory_format=torch.channels_last)
    return {"a": torch.arange(4.0), "b": torch.ones(2, 3), "turned": turned}


def test_a_restored_optimizer_goes_on_with_the_same_bits() -> None:
    values = _values()
    optimizer = _optimizer(values)
    for _ in range(3):
        _step(values, optimizer)
    # As a file has them.
    taken = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in optimizer.capture().items()}
    again = {name: torch.zeros_like(value) for name, value in values.items()}
    restored = _optimizer(again)
    restored.restore(taken)
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
    restored.restore(optimizer.capture())
    assert {tensor.device.type for tensor in restored.capture().values()} == {"meta"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_a_step_is_that_of_torch_over_all_values(threads: int, clip: float) -> None:
    """Gradients are cut by the length of all of them together, and each value moves at its own rate."""
    ours, theirs = _values(), _values()
    rates = {"a": Rate(0.1, 0.0), "b": Rate(0.2, 0.5), "turned": Rate(0.1, 0.0)}
    optimizer = AdamW(ours, rates, threads=threads)
    groups = [
        {"params": [theirs[n]], "lr": 0.5 * r.learning_rate, "weight_decay": r.weight_decay} for n, r in rates.items()
    ]
    reference = torch.optim.AdamW(groups)
    for step in range(3):
        shards = [[torch.cos(value + shard + step) for value in ours.values()] for shard in range(2)]
        for name, *gradients in zip(theirs, *shards, strict=True):
            theirs[name].grad = sum(gradients, torch.zeros(()))
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), clip)
        reference.step()
        optimizer.update(shards, share=0.5, clip=clip)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])


@pytest.mark.parametrize(("step", "share"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)])
def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine(step: int, share: float) -> None:
    assert share_of_rate(step, 20, warm_up=4) == pytest.approx(share)


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
        _optimizer(values).update([[gradient] for gradient in gradients], share=1.0, clip=1.0)
        found.append(weight)
    torch.testing.assert_close(found[1].contiguous(), found[0])
