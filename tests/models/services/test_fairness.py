"""Whose turn it is: the order alone, and what follows from it for everybody who waits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.records.training_shares import WaitingCustomer
from models.services.fairness import DELAY_PER_USED_S, order

NOW = 1_000_000.0


def waiting(name: str, *, waits_s: float = 0.0, used_s: float = 0.0, running: int = 0) -> WaitingCustomer:
    return WaitingCustomer(name, running=running, waits_since=NOW - waits_s, used_s=used_s)


@pytest.mark.parametrize(
    ("why", "first", "second"),
    [
        ("it came first", waiting("a", waits_s=2), waiting("b", waits_s=1)),
        ("it used less", waiting("a", waits_s=1, used_s=60), waiting("b", waits_s=1, used_s=600)),
        ("a newcomer overtakes one that trained just now", waiting("a"), waiting("b", used_s=1)),
        ("ten minutes of use weigh one minute", waiting("a", waits_s=61, used_s=600), waiting("b")),
        ("… and no more than that", waiting("a"), waiting("b", waits_s=59, used_s=600)),
        ("nothing of it runs", waiting("a", used_s=9_000), waiting("b", waits_s=9_000, running=1)),
        ("less of it runs", waiting("a", running=1), waiting("b", waits_s=99, running=2)),
        ("equals have an order, too", waiting("a"), waiting("b")),
    ],
)
def test_whose_turn_it_is(why: str, first: WaitingCustomer, second: WaitingCustomer) -> None:
    assert [one.customer_id for one in order([second, first])] == [first.customer_id, second.customer_id], why


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5_000), st.integers(0, 3)), max_size=8))
def test_everybody_is_in_the_order_once(rows: list[tuple[float, float, int]]) -> None:
    given_rows = [waiting(str(at), waits_s=w, used_s=u, running=r) for at, (w, u, r) in enumerate(rows)]
    assert sorted(order(given_rows)) == sorted(given_rows)


@settings(max_examples=60, deadline=None)
@given(
    used_s=st.floats(0, 2_000),
    others=st.lists(st.tuples(st.floats(0, 500), st.floats(0, 5_000)), max_size=6),
    newcomers_per_job=st.integers(1, 3),
    job_s=st.floats(5, 60),
)
def test_nobody_starves_behind_newcomers_however_many_come(
    used_s: float, others: list[tuple[float, float]], newcomers_per_job: int, job_s: float
) -> None:
    """One worker, more new customers than it can ever train, and one that used a lot and has waited no moment yet."""
    heavy = waiting("heavy", used_s=used_s)
    queue = [heavy, *(waiting(str(at), waits_s=w, used_s=u) for at, (w, u) in enumerate(others))]
    now, trained = NOW, 0
    # Before it go those that are there, and those who come before its delay is over.
    most = len(others) + newcomers_per_job * (1 + DELAY_PER_USED_S * used_s / job_s)
    while (chosen := order(queue)[0]) != heavy:
        queue.remove(chosen)
        trained += 1
        assert trained <= most
        now += job_s
        queue += [WaitingCustomer(f"new-{now}-{at}", 0, now, 0.0) for at in range(newcomers_per_job)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.5, 60), min_size=2, max_size=6), st.integers(20, 40))
def test_backlogs_take_turns_and_whoever_has_short_jobs_has_more_of_them(job_s: list[float], rounds: int) -> None:
    """Customers with a job each that always takes as long: nobody's seconds run away from the others'."""
    used, since = dict.fromkeys(range(len(job_s)), 0.0), dict.fromkeys(range(len(job_s)), NOW)
    now = NOW
    served: list[int] = []
    for _ in range(rounds):
        turn = order(WaitingCustomer(str(at), 0, since[at], used[at]) for at in used)[0]
        at = int(turn.customer_id)
        served.append(at)
        now += job_s[at]
        used[at] += job_s[at]
        since[at] = now
    # Between two turns of one nobody else has so many that they alone would exceed what both used.
    for at in used:
        gap = longest = 0
        for one in served:
            gap = 0 if one == at else gap + 1
            longest = max(longest, gap)
        assert longest <= (len(used) - 1) * (2 + DELAY_PER_USED_S * sum(used.values()) / min(job_s))
