"""Row 4: the memory of one more customer, in the process that serves it."""

from __future__ import annotations

import asyncio
import gc

import numpy as np

from models.serving.predictor import Predictor
from tests.benchmarks.serving_compute import load
from tests.benchmarks.serving_load import each, resident_bytes
from tests.benchmarks.serving_plan import Found, Plan
from tests.benchmarks.serving_world import World, asking, build, predicting

CUSTOMERS = 2_500
CLASSES = 10
STEPS = 10
# Of a few tokens each: as many as the longest pass on a processor has room for.
_MOST_ROWS = 80


def memory_slope(plan: Plan) -> Found:
    """Resident bytes per further customer with a head, over those of a full copy of the base."""
    backbone = load("auto")
    world = build(plan.folder / "memory", backbone, CUSTOMERS, classes=lambda _: CLASSES)
    resident = asyncio.run(_served(world))
    further = slope(resident)
    copied = sum(parameter.nbytes for parameter in backbone.trainable_copy().parameters())
    return {
        "value": further / copied,
        "bytes_per_customer": further,
        "bytes_of_a_copy": copied,
        "resident_by_customers": resident,
    }


async def _served(world: World) -> dict[int, int]:
    async with predicting(world) as predictor:
        return await warm_in_steps(predictor, world)


async def warm_in_steps(predictor: Predictor, world: World) -> dict[int, int]:
    """Ask once for everybody; the resident bytes after each tenth of them.

    Before, one customer asks for passes of every size: the kernels that oneDNN makes for each belong to nobody.
    """
    for rows in range(1, _MOST_ROWS + 1):
        await predictor.predict(world.call(0, ["warm up"] * rows))
    resident = {}
    ask = asking(predictor, world, range(world.count), ["warm up"])
    step = max(1, world.count // STEPS)
    for start in range(0, world.count, step):
        end = min(start + step, world.count)
        await each(ask, range(start, end))
        gc.collect()
        resident[end] = resident_bytes()
    return resident


def slope(resident: dict[int, int]) -> float:
    """Bytes per customer over the second half: the first fills what loading the base has left free."""
    customers = list(resident)[len(resident) // 2 - 1 :]
    return float(np.polyfit(customers, [resident[count] for count in customers], 1)[0])
