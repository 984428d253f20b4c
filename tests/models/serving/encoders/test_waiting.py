"""How long requests wait, on simulated processors: what no noisy machine can measure in a test."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.serving.encoders.simulation import AMX, AVX2, Processor, arrivals, latencies, saturation

# Short texts: a lognormal with a median of 13 tokens and a 99th percentile of 47.
LENGTHS = np.clip(np.random.default_rng(0).lognormal(np.log(13), 0.55, 2_000), 5, 60).astype(int).tolist()
OTHERS = [f"customer-{number}" for number in range(50)]
BOTH = pytest.mark.parametrize("processor", [AVX2, AMX], ids=["avx2", "amx"])


def p99(processor: Processor, *, load: float, flood: float = 0.0, seed: int = 0) -> float:
    """Of the others, who ask for `load` of the saturation rate while one customer asks for `flood` of it."""
    rate = saturation(processor, LENGTHS, tokens=100)
    requests = arrivals(OTHERS, load * rate, LENGTHS, count=8_000, seed=seed)
    if flood:
        requests += arrivals(["flood"], flood * rate, LENGTHS, count=int(8_000 * flood / load), seed=seed + 1)
    found = latencies(processor, requests)
    return float(np.percentile(np.concatenate([times for owner, times in found.items() if owner != "flood"]), 99))


@BOTH
def test_a_flood_leaves_the_others_within_twice_their_p99(processor: Processor) -> None:
    assert p99(processor, load=0.5, flood=0.5) < 2 * p99(processor, load=0.5)


@BOTH
def test_a_flood_of_five_times_what_can_be_answered_is_no_worse(processor: Processor) -> None:
    assert p99(processor, load=0.3, flood=5.0) < 2 * p99(processor, load=0.3)


@BOTH
def test_half_of_the_saturation_rate_is_no_queue(processor: Processor) -> None:
    assert p99(processor, load=0.5) < 5 * processor.pass_s(13)


@BOTH
def test_a_customer_alone_gets_the_whole_processor(processor: Processor) -> None:
    requests = arrivals(["alone"], 1e6, LENGTHS, count=3_000)
    waited = latencies(processor, requests)["alone"]
    tokens = sum(request.cost for request in requests)
    assert waited.max() < 1.2 * tokens * processor.token_s / processor.threads
