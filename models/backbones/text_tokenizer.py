"""Texts as token ids: cut off at a base's longest input, or in windows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.backbones import windows
from models.backbones.windows import TokenIds, WindowRow
from models.datasets.examples import TextPair
from models.datasets.windowing import Windowing

Ints = NDArray[np.int64]
TextRow = TokenIds | WindowRow

_CHUNK = 4_096


class TextTokenizer:
    """The tokeniser of a base that reads up to `max_tokens` at once."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._cutting = tokenizer
        # A text that spells "[SEP]" or "[PAD]" is a text: it must not become a control token.
        self._cutting.encode_special_tokens = True
        self._cutting.no_padding()
        self._cutting.no_truncation()
        self._whole = Tokenizer.from_str(self._cutting.to_str())
        self._whole.encode_special_tokens = True
        self._cutting.enable_truncation(max_tokens, strategy="longest_first")
        self._before, self._after = _special_tokens(self._whole)

    def tokenize(self, inputs: Sequence[str | TextPair], windowing: Windowing | None) -> list[TextRow]:
        """Return one int32 array per input, special tokens included, and a WindowRow for a text of several windows.

        Without windowing, and for two texts in one sequence, what exceeds the base's longest input is left out.
        """
        paired = any(isinstance(item, TextPair) for item in inputs)
        tokenizer = self._cutting if windowing is None or paired else self._whole
        rows: list[TextRow] = []
        for chunk in _chunks([_tokenizer_input(item) for item in inputs]):
            for item in tokenizer.encode_batch_fast(chunk):
                ids = np.asarray(item.ids, dtype=np.int32)
                if windowing is not None and len(ids) > self._max_tokens:
                    rows.append(self._side_by_side(ids, windowing))
                else:
                    rows.append(ids)
        return rows

    def tokenize_with_offsets(self, inputs: Sequence[str], windowing: Windowing | None) -> list[tuple[TextRow, Ints]]:
        """Return the rows, in overlapping windows where there are several, and the characters (T, 2) of each token.

        They are (0, 0) for special tokens, and for tokens of one window that are to be pooled from another.
        """
        tokenizer = self._cutting if windowing is None else self._whole
        rows: list[tuple[TextRow, Ints]] = []
        for chunk in _chunks(inputs):
            for item in tokenizer.encode_batch(chunk):
                ids = np.asarray(item.ids, dtype=np.int32)
                offsets_T2 = np.array(item.offsets, dtype=np.int64)
                if windowing is not None and len(ids) > self._max_tokens:
                    rows.append(self._overlapping(ids, offsets_T2, windowing))
                    continue
                offsets_T2[np.array(item.special_tokens_mask, dtype=np.bool_)] = 0
                rows.append((ids, offsets_T2))
        return rows

    def cut_tokens(self, inputs: Sequence[str], rows: Sequence[TextRow]) -> Ints:
        """Return how many tokens of each text lie beyond its row and are not read, (N,)."""
        cut_N = np.array([row.cut if isinstance(row, WindowRow) else 0 for row in rows], dtype=np.int64)
        # A row that is shorter than what the base reads is whole; only the others are counted anew.
        full = [at for at, row in enumerate(rows) if not isinstance(row, WindowRow) and len(row) >= self._max_tokens]
        for chosen in _chunks(full):
            encoded = self._whole.encode_batch_fast([inputs[at] for at in chosen])
            cut_N[chosen] = [len(item.ids) - len(rows[at]) for at, item in zip(chosen, encoded, strict=True)]
        return cut_N

    def _side_by_side(self, ids: TokenIds, windowing: Windowing) -> WindowRow:
        inner, cut = self._part_to_read(ids, windowing)
        found = windows.split(len(inner), most=self._room)
        return WindowRow(tuple(self._enclose(inner[window.start : window.stop]) for window in found), cut)

    def _overlapping(self, ids: TokenIds, offsets_T2: Ints, windowing: Windowing) -> tuple[WindowRow, Ints]:
        inner, cut = self._part_to_read(ids, windowing)
        offsets_T2 = offsets_T2[len(self._before) :]
        parts, offsets = [], []
        for window in windows.split(len(inner), most=self._room, overlap=windowing.overlap):
            parts.append(self._enclose(inner[window.start : window.stop]))
            own_T2 = np.zeros((len(parts[-1]), 2), dtype=np.int64)
            first = len(self._before) - window.start
            own_T2[first + window.own_start : first + window.own_stop] = offsets_T2[window.own_start : window.own_stop]
            offsets.append(own_T2)
        return WindowRow(tuple(parts), cut), np.concatenate(offsets)

    def _part_to_read(self, ids: TokenIds, windowing: Windowing) -> tuple[TokenIds, int]:
        """Return what is read of a text without its special tokens, and how many tokens are left out."""
        inner = ids[len(self._before) : len(ids) - len(self._after)]
        return inner[: windowing.tokens], max(0, len(inner) - windowing.tokens)

    def _enclose(self, inner: TokenIds) -> TokenIds:
        return np.concatenate([self._before, inner, self._after])

    @property
    def _room(self) -> int:
        """Tokens of a text that fit into one window."""
        return self._max_tokens - len(self._before) - len(self._after)


def _special_tokens(tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Return the tokens that every text has before and behind it."""
    encoded = tokenizer.encode("a")
    own = np.flatnonzero(np.array(encoded.special_tokens_mask) == 0)
    ids = np.asarray(encoded.ids, dtype=np.int32)
    return ids[: own[0]], ids[own[-1] + 1 :]


def _tokenizer_input(item: str | TextPair) -> str | tuple[str, str]:
    return item if isinstance(item, str) else (item.first, item.second)


def _chunks(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _CHUNK):
        yield list(items[start : start + _CHUNK])
