"""Merging the hot adapter: the low-rank adapter that most tokens are for gets blocks of its own.

Low-rank products cost an eighth of a pass in fp32 and a quarter in bf16, however few adapters there are: every product
of the base is read and written once more. One adapter at a time is worth the memory of the base's blocks again. It then
costs what a merged model costs, and others that share its passes run beside it, as beside any customer with own blocks.

Its outputs change by the rounding of merged weights: by less than other rows of a pass may change them (see the tests).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import structlog
import torch

from models.backbones.backbone import Backbone
from models.backbones.packed import PackedBlock, PackedEncoder
from models.backbones.text import TextBackbone
from models.serving.adapters.adapter import LORA_MODULES, Adapter
from models.serving.adapters.low_rank import LoraWeights

log = structlog.get_logger(__name__)

# The share of all tokens from which an adapter is the hot one, and below which it is that no longer.
HOT_FROM, COLD_BELOW = 0.5, 0.25
# Tokens after which the shares are looked at again: some seconds of a busy processor.
WINDOW_TOKENS = 20_000
# Customers and versions that were deleted while requests for them may still be on their way.
_GONE = 100


class HotAdapterMerge:
    """Finds and merges the hot adapter of one engine.

    `substitute` is called by the engine's worker threads, `forget` by any thread; merging happens on a thread of its
    own. The adapter with more than half of all tokens is found by votes (Boyer and Moore 1991): one candidate is
    remembered, not every adapter that was ever asked for.
    """

    def __init__(self, backbone: Backbone, *, limit_bytes: int, window_tokens: int = WINDOW_TOKENS) -> None:
        """Create it without a hot adapter. Merged blocks of more than `limit_bytes` are not made."""
        self._backbone = backbone
        self._limit = limit_bytes
        self._window = window_tokens
        self._lock = threading.Lock()
        self._candidate: Adapter | None = None  # None: all that have no low-rank matrices
        self._votes = 0
        # Tokens since the shares were looked at: the candidate's, those of the one that is merged, all.
        self._candidate_tokens = self._original_tokens = self._total = 0
        self._gone: deque[tuple[str, str | None]] = deque(maxlen=_GONE)  # customer and version; None: all of them
        self._merging: threading.Thread | None = None
        self._original: Adapter | None = None
        self._merged: Adapter | None = None

    @property
    def adapter(self) -> Adapter | None:
        """The hot adapter, if it is merged by now."""
        return self._original if self._merged is not None else None

    def substitute(self, adapters: Sequence[Adapter], tokens: Sequence[int]) -> list[Adapter]:
        """Return the adapters of a pass's rows, with so many tokens each; the hot one in its merged form."""
        with self._lock:
            for adapter, count in zip(adapters, tokens, strict=True):
                self._count(adapter, count)
            if self._total >= self._window:
                self._choose()
            original, merged = self._original, self._merged
        if merged is None:
            return list(adapters)
        return [merged if adapter is original else adapter for adapter in adapters]

    def forget(self, customer_id: str, version: str | None = None) -> None:
        """Drop what is a version's, or all of a customer; rows for it that are still on their way are not counted."""
        with self._lock:
            self._gone.append((customer_id, version))
            if self._original is not None and self._is_gone(self._original):
                self._original = self._merged = None
            if self._candidate is not None and self._is_gone(self._candidate):
                self._restart()

    def _is_gone(self, adapter: Adapter) -> bool:
        customer_id = adapter.customer_id
        return (customer_id, None) in self._gone or (customer_id, adapter.key) in self._gone

    def _count(self, adapter: Adapter, tokens: int) -> None:
        voter = adapter if adapter.lora is not None and not self._is_gone(adapter) else None
        self._total += tokens
        if voter is self._original:
            self._original_tokens += tokens
        if voter is self._candidate:
            self._votes += tokens
            self._candidate_tokens += tokens
        elif self._votes >= tokens:
            self._votes -= tokens
        else:
            self._candidate = voter
            self._votes = tokens - self._votes
            self._candidate_tokens = tokens

    def _choose(self) -> None:
        if self._original is not None and self._original_tokens < COLD_BELOW * self._total:
            self._original = self._merged = None
        leader = self._candidate
        is_hot = leader is not self._original and self._candidate_tokens >= HOT_FROM * self._total
        self._restart()
        if leader is not None and is_hot and (self._merging is None or not self._merging.is_alive()):
            merging = threading.Thread(target=self._merge, args=(leader,), name="merge", daemon=True)
            try:
                merging.start()
            except RuntimeError as error:  # no more threads: then not now
                log.warning("merge.not_started", error=repr(error))
                return
            self._original, self._merged, self._merging = leader, None, merging

    def _restart(self) -> None:
        """Forget the votes: those of the last window would keep a successor waiting for as long as the first led."""
        self._candidate, self._votes = None, 0
        self._candidate_tokens = self._original_tokens = self._total = 0

    def _merge(self, adapter: Adapter) -> None:
        torch.set_num_threads(1)  # of this thread alone
        try:
            merged = merge(adapter, self._backbone, limit_bytes=self._limit)
        except Exception as error:  # whatever it is, e.g. a full GPU: the adapter goes on as it was
            log.warning("merge.failed", task=adapter.task, error=repr(error))
            return
        with self._lock:
            if self._original is adapter:
                self._merged = merged


def merge(adapter: Adapter, backbone: Backbone, *, limit_bytes: int) -> Adapter | None:
    """Return the adapter with own blocks in place of low-rank matrices.

    None if they would be larger than `limit_bytes`, and where the adapter or the base does not allow it.
    """
    encoder = getattr(backbone, "packed", None)
    lora = adapter.lora
    if lora is None or adapter.blocks or adapter.encoder is not None:
        return None
    if not isinstance(backbone, TextBackbone) or not isinstance(encoder, PackedEncoder):
        return None
    touched = {block for block, _ in lora.pairs}
    if sum(encoder.blocks[index].nbytes for index in range(min(touched), backbone.blocks)) > limit_bytes:
        return None
    with torch.no_grad():
        base = backbone.pretrained()  # in fp32: rounded once, with the matrices in them
        blocks = {
            index: _merged_block(base.blocks[index].state_dict(), lora, index, encoder)
            for index in range(min(touched), backbone.blocks)
        }
    return replace(adapter, lora=None, blocks=blocks)


def _merged_block(state: dict[str, torch.Tensor], lora: LoraWeights, index: int, encoder: PackedEncoder) -> PackedBlock:
    state = {name: tensor.to(encoder.device) for name, tensor in state.items()}  # a block at a time
    for module, names in LORA_MODULES.items():
        pair = lora.pairs.get((index, module))
        for ranks, outputs, up_RO in pair.ups if pair is not None else ():
            name = names[outputs.start // (outputs.stop - outputs.start)]  # fused projections are of one width
            weight_OI = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight_OI + (pair.down_IR[:, ranks].float() @ up_RO.float()).T  # type: ignore[union-attr]
    return encoder.prepare(state)
