"""Texts that are longer than the base's longest input: how many are read in windows, and what lies beyond the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backbones.backbone import Backbone, TokenizedInput
from models.backbones.pairs import PairRow
from models.backbones.text import TextBackbone
from models.backbones.windows import WindowRow
from models.backbones.words import WordRow
from models.learning.data.corpus import Corpus

_SHOWN = 5  # rows that are named


def describe(backbone: Backbone, corpus: Corpus, tokens: Sequence[TokenizedInput]) -> dict[str, dict[str, Any]]:
    """Return the report's entries `windows` and `truncated`, where there is anything to say.

    Targets are those of the rows, not yet of their words.
    """
    if not isinstance(backbone, TextBackbone) or backbone.windowing is None:
        return {}
    numbered = [(int(number), text) for number, row in zip(corpus.rows, tokens, strict=True) for text in _texts(row)]
    long = [(number, text) for number, text in numbered if isinstance(text, WindowRow)]
    if not long:
        return {}
    cut = np.array([text.cut for _, text in long])
    counted = {"of": len(numbered), "max_tokens": backbone.entry.max_tokens}
    windows = {"texts": len(long), **counted, "windows": sum(len(text.windows) for _, text in long)}
    found: dict[str, dict[str, Any]] = {"windows": {**windows, "rows": _first(number for number, _ in long)}}
    if not cut.any():
        return found
    found["truncated"] = {
        "texts": int((cut > 0).sum()),
        **counted,
        "read_tokens": backbone.windowing.tokens,
        "tokens": int(cut.sum()),
        "rows": _first(number for number, text in long if text.cut > 0),
    }
    words = [row for row in tokens if isinstance(row, WordRow)]
    if words:
        last = [int(row.spans_W2[-1, 1]) if len(row.spans_W2) else 0 for row in words]
        found["truncated"]["spans"] = sum(
            start >= end for end, spans in zip(last, corpus.targets, strict=True) for start, *_ in spans
        )
        found["truncated"]["of_spans"] = sum(len(spans) for spans in corpus.targets)
    return found


def messages(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the entries in words."""
    if windows := found.get("windows"):
        yield (
            f"{windows['texts']} of {windows['of']} texts are longer than the base's {windows['max_tokens']} tokens, "
            f"first in {_listed(windows['rows'])}: they are read in {windows['windows']} windows"
        )
    if cut := found.get("truncated"):
        text = (
            f"{cut['texts']} of {cut['of']} texts are longer than the {cut['read_tokens']} tokens that are read, "
            f"first in {_listed(cut['rows'])}: "
        )
        spans = (
            f"{cut.get('spans')} of {cut.get('of_spans')} spans lie behind: they are not learned, and count as missed"
        )
        yield text + (spans if cut.get("spans") else "what is behind is not read")


def has_windows(tokens: Sequence[TokenizedInput]) -> bool:
    """Return whether any text is read in several windows."""
    return any(isinstance(text, WindowRow) for row in tokens for text in _texts(row))


def truncated_rows(tokens: Sequence[TokenizedInput]) -> NDArray[np.bool_]:
    """Return which rows are not read to their end, (N,)."""
    return np.array([any(isinstance(text, WindowRow) and text.cut > 0 for text in _texts(row)) for row in tokens])


def _first(numbers: Iterable[int]) -> list[int]:
    """Return the first few rows, each once."""
    return list(islice(dict.fromkeys(numbers), _SHOWN))


def _listed(rows: Sequence[int]) -> str:
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"


def _texts(row: TokenizedInput) -> tuple[Any, ...]:
    if isinstance(row, PairRow):
        return (row.first, row.second)
    return (row.tokens,) if isinstance(row, WordRow) else (row,)
