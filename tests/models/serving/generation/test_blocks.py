"""The pool of blocks: neighbours, prefixes, room."""

from __future__ import annotations

from models.serving.generation.blocks import BLOCK_TOKENS, BlockPool, blocks_for, next_digest, root_digest


def _digests(tokens: list[int], customer: str = "acme", version: str = "v1") -> list[bytes]:
    found, before = [], root_digest(customer, version)
    for at in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        before = next_digest(before, tokens[at : at + BLOCK_TOKENS])
        found.append(before)
    return found


def test_blocks_are_neighbours_and_leave_room_to_grow() -> None:
    pool = BlockPool(32)
    first = pool.take(3, room=4)
    second = pool.take(2, room=4)
    assert (first, second) == ([0, 1, 2], [7, 8])
    assert pool.take(2, after=2) == [3, 4]
    assert pool.free == 32 - 7


def test_more_than_there_is_takes_nothing() -> None:
    pool = BlockPool(4)
    assert pool.take(3) == [0, 1, 2]
    assert pool.take(2) is None
    assert pool.free == 1


def test_scattered_blocks_are_taken_where_there_is_no_run() -> None:
    pool = BlockPool(6)
    taken = pool.take(6)
    assert taken is not None
    pool.release([0, 2, 4], None)
    assert sorted(pool.take(3) or []) == [0, 2, 4]


def test_a_computed_prefix_is_found_until_its_room_is_needed() -> None:
    pool = BlockPool(4)
    tokens = list(range(2 * BLOCK_TOKENS))
    digests = _digests(tokens)
    blocks = pool.take(2) or []
    for block, digest in zip(blocks, digests, strict=True):
        pool.name(block, digest, "acme", computed=True)
    pool.release(blocks, None)
    assert pool.find(digests) == blocks
    assert (pool.kept, pool.free) == (2, 4)
    assert pool.take(3) is not None  # two that are free, and the prefix's last block
    assert pool.find(digests) == blocks[:1]


def test_what_was_not_computed_is_not_kept() -> None:
    pool = BlockPool(4)
    (digest,) = _digests(list(range(BLOCK_TOKENS)))
    blocks = pool.take(1) or []
    pool.name(blocks[0], digest, "acme", writer="me")
    assert pool.find([digest]) == blocks  # somebody is going to compute it
    pool.release(blocks, "me")
    assert pool.find([digest]) == []


def test_nothing_is_shared_between_customers_or_versions() -> None:
    tokens = list(range(BLOCK_TOKENS))
    digests = {_digests(tokens, *owner)[0] for owner in (("acme", "v1"), ("acme", "v2"), ("zeta", "v1"))}
    assert len(digests) == 3


def test_a_deleted_customers_prefixes_are_dropped() -> None:
    pool = BlockPool(4)
    (digest,) = _digests(list(range(BLOCK_TOKENS)))
    blocks = pool.take(1) or []
    pool.name(blocks[0], digest, "acme", computed=True)
    pool.release(blocks, None)
    pool.forget_customer("acme")
    assert (pool.find([digest]), pool.kept) == ([], 0)


def test_shared_blocks_stay_with_their_last_holder() -> None:
    pool = BlockPool(2)
    blocks = pool.take(1) or []
    pool.share(blocks)
    pool.release(blocks, None)
    assert pool.free == 1
    pool.release(blocks, None)
    assert pool.free == 2


def test_blocks_for_tokens() -> None:
    assert [blocks_for(tokens) for tokens in (1, BLOCK_TOKENS, BLOCK_TOKENS + 1)] == [1, 1, 2]
