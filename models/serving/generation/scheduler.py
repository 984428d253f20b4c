"""Scheduling: which sequences are under way, and what of each is computed in the next step. Plain numbers, no tensors.

Every step computes the next token of all sequences that are under way, and a bounded slice of the prompts of those
that have just joined. Customers are served by tokens: the one that was served least comes first (the virtual token
counter of Sheng et al., "Fairness in Serving Large Language Models", 2024); a customer that comes back begins at the
least of those that are there. If there is no place for a customer that has nothing under way and was served less, the
one that has most gives one up, and when blocks run out, the one that holds most: the sequence waits with its tokens and
goes on later.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from models.serving.generation.blocks import BLOCK_TOKENS, BlockPool, blocks_for, next_digest

# Blocks that a sequence may be expected to grow into: an answer of a paragraph.
ROOM_BLOCKS = 8


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens of one answer, prompt first, and how far their keys and values are stored."""

    customer: str
    tokens: list[int]
    prompt: int  # how many of them are the prompt's
    digest: bytes  # of what computes it: customer and version
    owner: Any = None
    computed: int = 0
    reused: int = 0  # tokens of the prompt that others had computed
    blocks: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)  # of the full blocks
    started: bool = False
    service: int = 0  # rows that were computed for it

    @property
    def decoding(self) -> bool:
        """True if all but the last token are stored."""
        return len(self.tokens) - self.computed == 1

    def full_digests(self, tokens: int) -> list[bytes]:
        """Return the digests of the full blocks within so many tokens."""
        full = tokens // BLOCK_TOKENS
        while len(self.digests) < full:
            at = len(self.digests) * BLOCK_TOKENS
            before = self.digests[-1] if self.digests else self.digest
            self.digests.append(next_digest(before, self.tokens[at : at + BLOCK_TOKENS]))
        return self.digests[:full]


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens of a sequence that one step computes."""

    sequence: Sequence
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of tokens."""
        return self.stop - self.start

    @property
    def ends(self) -> bool:
        """True if the next token follows from it."""
        return self.stop == len(self.sequence.tokens)


class Scheduler:
    """Sequences that wait and that are under way. For one thread at a time."""

    def __init__(self, pool: BlockPool, *, most: int) -> None:
        """Create an empty scheduler; `most` is how many sequences are under way at a time."""
        self.pool = pool
        self._most = most
        self._waiting: dict[str, deque[Sequence]] = {}
        self.running: list[Sequence] = []  # in the order in which they joined
        self._served: dict[str, int] = {}
        self.preemptions = 0

    @property
    def idle(self) -> bool:
        """True if there is nothing to do."""
        return not self.running and not self._waiting

    @property
    def waiting(self) -> int:
        """Number of sequences that are not under way."""
        return sum(map(len, self._waiting.values()))

    def waiting_of(self, customer: str) -> int:
        """Return how many sequences of a customer wait."""
        return len(self._waiting.get(customer, ()))

    def add(self, sequence: Sequence) -> None:
        """Append a sequence to its customer's queue."""
        customer = sequence.customer
        if customer not in self._served:
            self._served[customer] = min(self._served.values(), default=0)
        self._waiting.setdefault(customer, deque()).append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence that has ended or whose caller is gone."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._let_go(sequence)
        elif (queue := self._waiting.get(sequence.customer)) and sequence in queue:
            queue.remove(sequence)
            self._tidy(sequence.customer)
        if not self._is_present(sequence.customer):
            self._served.pop(sequence.customer, None)

    def plan(self, prefill: int) -> list[Slice]:
        """Return what the next step computes, with at most `prefill` tokens of prompts."""
        self._admit()
        decoding = []
        for sequence in list(self.running):
            if sequence.decoding and self._is_running(sequence) and self._grow(sequence):
                decoding.append(Slice(sequence, sequence.computed, sequence.computed + 1))
        prompts: list[Slice] = []
        joining = [sequence for sequence in self.running if not sequence.decoding]
        for sequence in sorted(joining, key=lambda joined: self._served[joined.customer]):
            if prefill <= 0:
                break
            if not self._adopt(sequence):
                continue
            # Whole blocks, but for the last: so a prompt is cut at the same places whoever else is there.
            whole = max(1, prefill // BLOCK_TOKENS) * BLOCK_TOKENS
            stop = min(len(sequence.tokens), sequence.computed + whole, self._shared_from(sequence))
            prompts.append(Slice(sequence, sequence.computed, stop))
            prefill -= prompts[-1].rows
        return [piece for piece in decoding if self._is_running(piece.sequence)] + prompts

    def advance(self, slices: Iterable[Slice]) -> None:
        """Note that slices were computed. Call it before their next tokens are appended."""
        for piece in slices:
            sequence = piece.sequence
            if not self._is_running(sequence):
                continue
            sequence.service += piece.rows
            self._served[sequence.customer] += piece.rows
            sequence.computed = piece.stop
            digests = sequence.full_digests(piece.stop)
            for at in range(piece.start // BLOCK_TOKENS, len(digests)):
                number = sequence.blocks[at]
                block = self.pool.block(number)
                if block.digest == digests[at]:
                    block.computed, block.writer = True, None
                else:
                    self.pool.name(number, digests[at], sequence.customer, computed=True)

    def _admit(self) -> None:
        while self._waiting:
            held = Counter(sequence.customer for sequence in self.running)
            for customer in sorted(self._waiting, key=lambda waiting: (self._served[waiting], held[waiting])):
                if len(self.running) < self._most or self._make_place(customer, held):
                    break
            else:
                return
            if not self._enter(self._waiting[customer][0]):
                return
            self._waiting[customer].popleft()
            self._tidy(customer)

    def _make_place(self, customer: str, held: Counter[str]) -> bool:
        """Take a place from the customer that has most, for one that has none and was served less; return whether."""
        richest, places = held.most_common(1)[0]
        if held[customer] or places < 2 or self._served[customer] > self._served[richest]:
            return False
        self._preempt(next(one for one in reversed(self.running) if one.customer == richest))
        return True

    def _enter(self, sequence: Sequence) -> bool:
        # The last token is always computed: the next one follows from it.
        digests = sequence.full_digests(len(sequence.tokens) - 1)
        found = self.pool.find(digests)
        self.pool.share(found)
        missing = blocks_for(len(sequence.tokens)) - len(found)
        taken = self.pool.take(missing, after=found[-1] if found else None, room=ROOM_BLOCKS)
        if taken is None:
            self.pool.release(found, sequence)
            return False
        sequence.blocks = found + taken
        for at in range(len(found), len(digests)):
            self.pool.name(sequence.blocks[at], digests[at], sequence.customer, writer=sequence)
        self.running.append(sequence)
        self._adopt(sequence)
        return True

    def _adopt(self, sequence: Sequence) -> bool:
        """Move on over blocks that others have computed; return whether the next one is this sequence's to compute."""
        last = len(sequence.tokens) - 1
        while sequence.computed % BLOCK_TOKENS == 0 and sequence.computed + BLOCK_TOKENS <= last:
            block = self.pool.block(sequence.blocks[sequence.computed // BLOCK_TOKENS])
            if not block.computed:
                if block.writer not in (None, sequence):
                    return False
                block.writer = sequence
                break
            sequence.computed += BLOCK_TOKENS
            if not sequence.started:
                sequence.reused += BLOCK_TOKENS
        sequence.started = True
        return True

    def _shared_from(self, sequence: Sequence) -> int:
        """Return where the next block begins that another sequence computes or has computed."""
        at = sequence.computed // BLOCK_TOKENS + 1
        while at < len(sequence.blocks):
            block = self.pool.block(sequence.blocks[at])
            if block.computed or block.writer not in (None, sequence):
                return at * BLOCK_TOKENS
            at += 1
        return len(sequence.tokens)

    def _grow(self, sequence: Sequence) -> bool:
        """Hold the block of the next token; return False if the sequence had to give way."""
        while len(sequence.blocks) * BLOCK_TOKENS <= sequence.computed:
            if (taken := self.pool.take(1, after=sequence.blocks[-1])) is not None:
                sequence.blocks += taken
                continue
            held: Counter[str] = Counter()
            for one in self.running:
                held[one.customer] += len(one.blocks)
            richest = held.most_common(1)[0][0]
            victim = next(one for one in reversed(self.running) if one.customer == richest)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self._let_go(sequence)
        self._waiting.setdefault(sequence.customer, deque()).appendleft(sequence)

    def _let_go(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks, sequence)
        sequence.blocks, sequence.computed = [], 0

    def _tidy(self, customer: str) -> None:
        if not self._waiting[customer]:
            del self._waiting[customer]

    def _is_running(self, sequence: Sequence) -> bool:
        return bool(sequence.blocks)

    def _is_present(self, customer: str) -> bool:
        return customer in self._waiting or any(sequence.customer == customer for sequence in self.running)
