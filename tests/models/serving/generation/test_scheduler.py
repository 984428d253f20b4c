"""Which sequences are under way: pure rules, played without a network."""

from __future__ import annotations

from collections import Counter

from models.serving.generation.blocks import BLOCK_TOKENS, BlockPool, root_digest
from models.serving.generation.scheduler import Scheduler, Sequence, Slice


def _sequence(customer: str, prompt: int, *, first: int = 0) -> Sequence:
    return Sequence(customer, list(range(first, first + prompt)), prompt, root_digest(customer, "v1"))


def _step(scheduler: Scheduler, prefill: int = 64) -> list[Slice]:
    """One step of an engine; every sequence that can takes a token."""
    slices = scheduler.plan(prefill)
    scheduler.advance(slices)
    for piece in slices:
        if piece.ends:
            piece.sequence.tokens.append(7)
    return slices


def _generated(sequence: Sequence) -> int:
    return len(sequence.tokens) - sequence.prompt


def test_a_prompt_goes_in_slices_while_others_go_on() -> None:
    scheduler = Scheduler(BlockPool(64), most=4)
    running, long = _sequence("acme", 8), _sequence("zeta", 200)
    scheduler.add(running)
    _step(scheduler)
    scheduler.add(long)
    for _ in range(4):
        slices = _step(scheduler, prefill=64)
        assert slices[0] == Slice(running, running.computed - 1, running.computed)
        assert sum(piece.rows for piece in slices[1:]) <= 64
    assert _generated(running) == 5
    assert (long.computed, _generated(long)) == (200, 1)


def test_slices_end_where_blocks_do() -> None:
    scheduler = Scheduler(BlockPool(64), most=4)
    sequence = _sequence("acme", 100)
    scheduler.add(sequence)
    stops = [_step(scheduler, prefill=prefill)[0].stop for prefill in (3, 40, 50)]
    assert stops == [BLOCK_TOKENS, 3 * BLOCK_TOKENS, 6 * BLOCK_TOKENS]


def test_a_flood_does_not_keep_a_newcomer_waiting() -> None:
    scheduler = Scheduler(BlockPool(256), most=4)
    flood = [_sequence("flood", 20, first=100 * number) for number in range(40)]
    for sequence in flood:
        scheduler.add(sequence)
    for _ in range(5):
        _step(scheduler)
    newcomer = _sequence("small", 20)
    scheduler.add(newcomer)
    _step(scheduler)
    assert _generated(newcomer) == 1
    assert scheduler.preemptions == 1
    # What gave way goes on later, with the tokens that it had.
    paused = next(sequence for sequence in flood if _generated(sequence) and not sequence.blocks)
    before = list(paused.tokens)
    for sequence in [newcomer, *(one for one in flood if one is not paused)]:
        scheduler.remove(sequence)
    _step(scheduler, prefill=64)
    assert paused.tokens == [*before, 7]


def test_customers_share_tokens_and_not_requests() -> None:
    scheduler = Scheduler(BlockPool(512), most=2)
    for number in range(50):
        scheduler.add(_sequence("long", 90, first=1000 * number))
        scheduler.add(_sequence("short", 10, first=1000 * number))
    rows: Counter[str] = Counter()
    for _ in range(60):
        for piece in _step(scheduler, prefill=32):
            rows[piece.sequence.customer] += piece.rows
            if _generated(piece.sequence) >= 4:
                scheduler.remove(piece.sequence)
    assert 0.6 < rows["short"] / rows["long"] < 1.7


def test_a_prefix_is_computed_once_even_for_those_who_come_together() -> None:
    scheduler = Scheduler(BlockPool(256), most=16)
    sequences = [Sequence("acme", [*range(100), 900 + number], 101, root_digest("acme", "v1")) for number in range(8)]
    for sequence in sequences:
        scheduler.add(sequence)
    rows = 0
    while any(_generated(sequence) == 0 for sequence in sequences):
        slices = scheduler.plan(256)
        rows += sum(piece.rows for piece in slices)
        scheduler.advance(slices)
        for piece in slices:
            if piece.ends:
                piece.sequence.tokens.append(7)
    shared = 100 // BLOCK_TOKENS * BLOCK_TOKENS
    # The first computes all of its prompt, the others what comes behind the shared blocks.
    assert rows <= 101 + 7 * (101 - shared) + 8
    assert [sequence.reused for sequence in sequences] == [0, *[shared] * 7]


def test_whoever_shares_a_prefix_computes_it_if_the_first_one_leaves() -> None:
    scheduler = Scheduler(BlockPool(64), most=4)
    first, second = (Sequence("acme", [*range(64), 900 + at], 65, root_digest("acme", "v1")) for at in (0, 1))
    scheduler.add(first)
    scheduler.add(second)
    (piece,) = _step(scheduler, prefill=16)
    assert piece.sequence is first
    scheduler.remove(first)
    for _ in range(5):
        _step(scheduler, prefill=16)
    assert (_generated(second) > 0, second.reused) == (True, 16)


def test_another_customers_equal_prompt_is_not_shared() -> None:
    scheduler = Scheduler(BlockPool(64), most=4)
    for customer in ("acme", "zeta"):
        scheduler.add(_sequence(customer, 33))
    slices = _step(scheduler, prefill=256)
    assert [piece.rows for piece in slices] == [33, 33]


def test_a_finished_conversation_is_continued_without_computing_it_again() -> None:
    scheduler = Scheduler(BlockPool(64), most=4)
    first = _sequence("acme", 20)
    scheduler.add(first)
    while _generated(first) < 30:
        _step(scheduler)
    scheduler.remove(first)
    again = Sequence("acme", [*first.tokens, 1, 2, 3], len(first.tokens) + 3, root_digest("acme", "v1"))
    scheduler.add(again)
    _step(scheduler)
    assert again.reused == 48


def test_who_holds_most_gives_way_when_blocks_run_out() -> None:
    scheduler = Scheduler(BlockPool(8), most=4)
    greedy = [_sequence("greedy", 30, first=1000 * number) for number in range(3)]
    modest = _sequence("modest", 10)
    for sequence in [*greedy, modest]:
        scheduler.add(sequence)
    for _ in range(12):
        _step(scheduler)
    assert _generated(modest) == 12
    assert scheduler.preemptions > 0
    scheduler.remove(modest)
    for sequence in greedy:
        while _generated(sequence) < 20:
            _step(scheduler)
        scheduler.remove(sequence)
    assert (scheduler.idle, scheduler.pool.free) == (True, 8)


def test_who_leaves_frees_its_blocks() -> None:
    pool = BlockPool(16)
    scheduler = Scheduler(pool, most=1)
    running, waiting = _sequence("acme", 10), _sequence("acme", 10)
    scheduler.add(running)
    scheduler.add(waiting)
    _step(scheduler)
    scheduler.remove(waiting)
    scheduler.remove(running)
    assert (scheduler.idle, pool.free) == (True, 16)
