from __future__ import annotations

from models.services.validation.turns import Turn, Turns


def large(customer: str) -> Turn:
    return Turn(customer, large=True)


def small(customer: str) -> Turn:
    return Turn(customer, large=False)


def add(turns: Turns, *added: Turn) -> None:
    for turn in added:
        turns.add(turn)


def run(turns: Turns, seconds: dict[bool, float] | None = None) -> list[str]:
    """Customers in the order in which their files are read, one file at a time."""
    order = []
    while (turn := turns.next()) is not None:
        order.append(turn.customer)
        turns.end(turn, (seconds or {}).get(turn.large, 1.0))
    return order


def test_a_small_file_finds_a_place_beside_large_ones():
    turns = Turns(2)
    add(turns, *(large("loud") for _ in range(9)))
    assert turns.next() is not None
    assert turns.next() is None, "the other place is kept"
    turns.add(small("quiet"))
    got = turns.next()
    assert got is not None
    assert got.customer == "quiet"


def test_a_customer_never_takes_all_places_with_small_files_either():
    turns = Turns(2)
    add(turns, small("loud"), small("loud"), small("loud"))
    assert turns.next() is not None
    assert turns.next() is None
    turns.add(small("quiet"))
    assert turns.next() is not None


def test_large_files_of_two_customers_alternate():
    turns = Turns(2)
    add(turns, *(large("loud") for _ in range(4)))
    first = turns.next()
    assert first is not None
    add(turns, large("quiet"), large("quiet"))
    turns.end(first, 4.0)
    assert run(turns) == ["quiet", "quiet", "loud", "loud", "loud"], "the quiet one has 4 seconds to catch up"


def test_seconds_are_shared_and_not_files():
    turns = Turns(2)
    add(turns, *(large("long") for _ in range(3)), *(small("short") for _ in range(6)))
    order = run(turns, {True: 4.0, False: 1.0})
    assert order == ["long", "short", "short", "short", "short", "long", "short", "short", "long"]


def test_a_pause_saves_nothing_up():
    turns = Turns(1)
    add(turns, large("early"))
    run(turns)
    add(turns, *(large("busy") for _ in range(10)))
    for _ in range(6):
        turn = turns.next()
        assert turn is not None
        turns.end(turn, 1.0)
    add(turns, *(large("early") for _ in range(6)))
    order = run(turns)
    assert sorted(order[:8]).count("early") in (4, 5), "they alternate from here on"


def test_with_one_place_everybody_is_served():
    turns = Turns(1)
    add(turns, large("a"), small("b"), large("c"))
    assert sorted(run(turns)) == ["a", "b", "c"]


def test_who_has_gone_is_passed_over_and_nothing_is_kept_of_it():
    turns = Turns(2)
    gone, left = large("gone"), large("left")
    add(turns, gone, left)
    assert turns.withdraw(gone)
    assert not turns.withdraw(gone)
    assert run(turns) == ["left"]
    assert (turns.waiting, turns.running) == (0, 0)
    assert not turns._customers
