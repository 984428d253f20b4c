"""Blocks of keys and values: who holds which, which prefixes can be shared, and what makes room. No tensors.

A block has the keys and values of `BLOCK_TOKENS` tokens in all layers. A full block is named by the digest of all
tokens up to its end and of what computed them (customer and version): a sequence that begins alike takes it instead of
computing it. A block is named as soon as somebody is going to compute it, so that sequences that arrive together share
it, too. Blocks that nobody holds any longer are kept until their room is needed, the least recently used go first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BLOCK_TOKENS = 16


@dataclass(slots=True, eq=False)
class Block:
    """A block that is held or kept."""

    number: int
    holders: int = 1
    digest: bytes = b""  # empty: it is nobody's prefix
    customer: str = ""
    computed: bool = False
    writer: object = None  # the sequence that is going to compute it; None: whoever needs it


def root_digest(customer_id: str, version: str) -> bytes:
    """Return the digest in front of a sequence's first block: nothing is shared between customers or versions."""
    return hashlib.blake2b(f"{customer_id}\0{version}".encode(), digest_size=16).digest()


def next_digest(before: bytes, tokens: Sequence[int]) -> bytes:
    """Return the digest of a full block, from the one before it and its tokens."""
    return hashlib.blake2b(before + array("q", tokens).tobytes(), digest_size=16).digest()


def blocks_for(tokens: int) -> int:
    """Return how many blocks so many tokens take."""
    return -(-tokens // BLOCK_TOKENS)


class BlockPool:
    """All blocks of an engine. For one thread at a time."""

    def __init__(self, count: int) -> None:
        """Create a pool of `count` empty blocks."""
        self.count = count
        self._occupied = bytearray(count)  # 1: held or kept. A run of free ones is found by a search for zeros
        self._blocks: dict[int, Block] = {}
        self._by_digest: dict[bytes, Block] = {}
        self._kept: OrderedDict[int, Block] = OrderedDict()
        self._cursor = 0

    @property
    def free(self) -> int:
        """Number of blocks that could be taken now."""
        return self.count - len(self._blocks) + len(self._kept)

    @property
    def kept(self) -> int:
        """Number of blocks that are kept for a prefix and held by nobody."""
        return len(self._kept)

    def block(self, number: int) -> Block:
        """Return a block that is held or kept."""
        return self._blocks[number]

    def find(self, digests: Iterable[bytes]) -> list[int]:
        """Return the blocks with these digests, from the first up to one that is not there."""
        found: list[int] = []
        for digest in digests:
            block = self._by_digest.get(digest)
            if block is None:
                break
            found.append(block.number)
        return found

    def share(self, numbers: Iterable[int]) -> None:
        """Hold blocks that were found."""
        for number in numbers:
            self._blocks[number].holders += 1
            self._kept.pop(number, None)

    def take(self, count: int, *, after: int | None = None, room: int = 0) -> list[int] | None:
        """Hold `count` further blocks; None if there are not so many.

        Neighbours where possible, as attention reads those without a copy: behind the block `after`, else where there
        is `room` behind them to grow.
        """
        if count > self.free:
            return None
        taken: list[int] = []
        while after is not None and len(taken) < count and after + 1 < self.count and not self._occupied[after + 1]:
            after += 1
            taken.append(self._occupy(after))
        if (missing := count - len(taken)) > 0:
            taken += self._take_run(missing, room) or [self._take_any() for _ in range(missing)]
        return taken

    def name(self, number: int, digest: bytes, customer: str, *, writer: object = None, computed: bool = False) -> None:
        """Let others find a block. Nothing changes if another one has the name already."""
        block = self._blocks[number]
        if digest in self._by_digest or block.digest:
            return
        block.digest, block.customer, block.writer, block.computed = digest, customer, writer, computed
        self._by_digest[digest] = block

    def release(self, numbers: Sequence[int], holder: object) -> None:
        """Let go of blocks. What is computed and named is kept, of a sequence's blocks the first ones for longest."""
        for number in reversed(numbers):
            block = self._blocks[number]
            if block.writer is holder:
                block.writer = None  # one of the others that hold it computes it
            block.holders -= 1
            if block.holders:
                continue
            if block.digest and block.computed:
                self._kept[number] = block
            else:
                self._drop(block)

    def forget_customer(self, customer: str) -> None:
        """Drop what is kept of a customer, and find what is held of it no longer."""
        for block in [block for block in self._by_digest.values() if block.customer == customer]:
            self._by_digest.pop(block.digest)
            block.digest = b""
            if not block.holders:
                self._drop(block)

    def _take_run(self, count: int, room: int) -> list[int]:
        for length in (count + room, count):
            for begin in (self._cursor, 0):
                start = self._occupied.find(bytes(length), begin)
                if start >= 0:
                    self._cursor = start + length  # what grows has room before the next one begins
                    return [self._occupy(start + offset) for offset in range(count)]
        return []

    def _take_any(self) -> int:
        number = self._occupied.find(0)
        if number < 0:
            self._drop(next(iter(self._kept.values())))
            number = self._occupied.find(0)
        return self._occupy(number)

    def _occupy(self, number: int) -> int:
        self._occupied[number] = 1
        self._blocks[number] = Block(number)
        return number

    def _drop(self, block: Block) -> None:
        self._kept.pop(block.number, None)
        if self._by_digest.get(block.digest) is block:
            del self._by_digest[block.digest]
        del self._blocks[block.number]
        self._occupied[block.number] = 0
