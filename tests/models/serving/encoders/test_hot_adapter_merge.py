"""The adapter that most tokens are for runs merged, and the answers do not show it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.backbones import loading
from models.backbones.text import TextBackbone
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.engine import Engine
from models.serving.encoders.engine_parts import EngineLimits, EngineParts
from models.serving.encoders.hot_adapter_merge import HotAdapterMerge, merge
from models.serving.encoders.passes import answer
from tests.device import DEVICE
from tests.models.serving.conftest import TEXTS, lora_tensors
from tests.models.serving.encoders.test_passes import make, own_blocks

PLENTY = 2**30


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"modules": ("attention.self.value",), "rank": 4},
        {"modules": ("attention.self.query", "intermediate.dense")},
    ],
    ids=["all", "value", "some"],
)
def test_merged_it_answers_the_same(backbone: TextBackbone, more: dict[str, Any]) -> None:
    adapter, _ = make(backbone, features=("mean.2", "mean.6"), more=lora_tensors(1, **more))
    merged = merge(adapter, backbone, limit_bytes=PLENTY)
    assert merged is not None
    assert merged.lora is None
    rows = backbone.tokenize(TEXTS)
    apart, together = (np.stack(answer(backbone, rows, [each] * len(rows))) for each in (adapter, merged))
    np.testing.assert_allclose(together, apart, atol=1e-4)


def test_in_bf16_merging_changes_no_more_than_neighbours_do(backbone: TextBackbone) -> None:
    fast = loading.load(backbone.entry, device=DEVICE, precision="bf16", threads=1)
    adapter, _ = make(fast, temperature=10.0, more=lora_tensors(2))
    merged = merge(adapter, fast, limit_bytes=PLENTY)
    assert merged is not None
    rows = fast.tokenize(TEXTS)
    apart, together = (np.stack(answer(fast, rows, [each] * len(rows))) for each in (adapter, merged))
    np.testing.assert_allclose(together, apart, atol=0.02)


def test_what_is_too_large_is_not_merged(backbone: TextBackbone) -> None:
    adapter, _ = make(backbone, more=lora_tensors(1))
    assert merge(adapter, backbone, limit_bytes=2**10) is None


def test_the_hot_adapter_is_merged_while_it_is_hot(backbone: TextBackbone) -> None:
    often, rare, plain = (make(backbone, seed=1, more=lora_tensors(1)), make(backbone, seed=2, more=lora_tensors(2)),
                          make(backbone, seed=3))  # fmt: skip
    adapters = [replace(made[0], customer_id=f"customer-{at}") for at, made in enumerate((often, rare, plain))]

    async def run() -> None:
        hot_adapter_merge = HotAdapterMerge(backbone, limit_bytes=PLENTY, window_tokens=400)
        engine = Engine(backbone, EngineLimits(512, 1_000), parts=EngineParts(hot_adapter_merge=hot_adapter_merge))
        engine.start()

        async def ask(owners: Sequence[int]) -> list[Any]:
            requests = [engine.submit(f"customer-{owner}", adapters[owner], TEXTS) for owner in owners]
            return [np.stack(request.outputs) for request in await asyncio.gather(*requests)]

        before = await ask([0, 1, 2])

        async def settled(owners: Sequence[int], expected: Adapter | None) -> None:
            async with asyncio.timeout(60):
                while hot_adapter_merge.adapter is not expected:
                    await ask(owners)

        await settled([0, 0, 0, 1, 2], adapters[0])
        for one, other in zip(before, await ask([0, 1, 2]), strict=True):
            np.testing.assert_allclose(other, one, atol=2e-4)
        await settled([1, 1, 1, 1, 2], adapters[1])
        await settled([0, 1, 2, 2, 2, 2, 2, 2], None)
        await settled([0, 0, 0, 1], adapters[0])
        hot_adapter_merge.forget("customer-0")
        assert hot_adapter_merge.adapter is None
        for _ in range(10):  # what is still on its way
            await ask([0, 0, 0, 1])
        assert hot_adapter_merge.adapter is None
        await engine.close()

    asyncio.run(run())


def test_a_successor_waits_no_longer_however_long_the_first_was_hot(backbone: TextBackbone) -> None:
    first, second = (make(backbone, seed=seed, more=lora_tensors(seed))[0] for seed in range(2))
    hot = HotAdapterMerge(backbone, limit_bytes=PLENTY, window_tokens=100)

    def ask_until_merged(adapter: Adapter, most: int) -> None:
        for _ in range(most):
            hot.substitute([adapter], [50])
            if hot._original is adapter:
                return
        raise AssertionError("it was never chosen")

    ask_until_merged(first, 4)
    for _ in range(1_000):
        hot.substitute([first], [50])
    hot._merging.join(60)  # type: ignore[union-attr]
    ask_until_merged(second, 6)


def test_of_a_deleted_version_nothing_stays_and_the_customers_others_are_merged(backbone: TextBackbone) -> None:
    old, live = (
        replace(make(backbone, seed=seed, more=lora_tensors(seed))[0], customer_id="acme", key=f"v{seed}")
        for seed in (1, 2)
    )
    hot = HotAdapterMerge(backbone, limit_bytes=PLENTY, window_tokens=100)

    def ask(adapter: Adapter) -> None:
        for _ in range(10):
            hot.substitute([adapter], [50])

    ask(old)
    assert hot._original is old
    hot.forget("acme", "v1")
    assert hot._original is None
    ask(old)  # what is still on its way
    assert hot._original is None
    hot._merging.join(60)  # type: ignore[union-attr]
    ask(live)
    assert hot._original is live
    hot.forget("acme")
    assert hot._original is None


def test_own_blocks_stay_a_customers_own(backbone: TextBackbone) -> None:
    both, _ = make(backbone, more={**lora_tensors(1), **own_blocks(backbone, 4, 7)})
    assert merge(both, backbone, limit_bytes=PLENTY) is None


def test_no_majority_no_merging(backbone: TextBackbone) -> None:
    adapters = [make(backbone, seed=seed, more=lora_tensors(seed))[0] for seed in range(3)]
    hot = HotAdapterMerge(backbone, limit_bytes=PLENTY, window_tokens=100)
    for turn in range(300):
        chosen = adapters[turn % 3]
        assert hot.substitute([chosen], [10]) == [chosen]
    assert hot.adapter is None


def test_many_of_one_adapter_among_few_others(backbone: TextBackbone) -> None:
    """One pass with rows of a merged adapter, of low-rank ones and of bare heads."""
    merged = merge(make(backbone, seed=1, more=lora_tensors(1))[0], backbone, limit_bytes=PLENTY)
    assert merged is not None
    owners = [merged, make(backbone, seed=2, more=lora_tensors(2))[0], make(backbone, seed=3)[0]]
    rows = [(owner, text) for text in TEXTS for owner in (owners[0], owners[0], *owners)]
    mixed = answer(backbone, backbone.tokenize([text for _, text in rows]), [owner for owner, _ in rows])
    for (owner, text), output in zip(rows, mixed, strict=True):
        np.testing.assert_allclose(output, answer(backbone, backbone.tokenize([text]), [owner])[0], atol=1e-4)
