"""Texts that are longer than what the base reads: how many, how much of them, and the spans that lie behind the cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.backbones.backbone import Backbone, TokenizedInput
from models.backbones.pairs import PairRow
from models.backbones.text import TextBackbone
from models.backbones.words import WordRow
from models.learning.data.corpus import Corpus


def describe(backbone: Backbone, corpus: Corpus, tokens: Sequence[TokenizedInput]) -> dict[str, Any] | None:
    """Return the report's entry; None if everything is read. Targets are those of the rows, not yet of their words."""
    if not isinstance(backbone, TextBackbone):
        return None
    pairs = [row for row in tokens if isinstance(row, PairRow)]
    if pairs:
        texts = [text for item in corpus.inputs for text in (item.first, item.second)]  # type: ignore[union-attr]
        rows: list[Any] = [part for row in pairs for part in (row.first, row.second)]
    else:
        texts, rows = [str(item) for item in corpus.inputs], list(tokens)
    cut_N = backbone.cut_tokens(texts, rows)
    if not cut_N.any():
        return None
    found = {
        "texts": int((cut_N > 0).sum()),
        "of": len(texts),
        "max_tokens": backbone.entry.max_tokens,
        "tokens": int(cut_N.sum()),
    }
    words = [row for row in tokens if isinstance(row, WordRow)]
    if words:
        last = [int(row.spans_W2[-1, 1]) if len(row.spans_W2) else 0 for row in words]
        found["spans"] = sum(
            start >= end for end, spans in zip(last, corpus.targets, strict=True) for start, *_ in spans
        )
        found["of_spans"] = sum(len(spans) for spans in corpus.targets)
    return found


def message(cut: dict[str, Any]) -> str:
    """Return the entry in words."""
    text = f"{cut['texts']} of {cut['of']} texts are longer than the base's {cut['max_tokens']} tokens: "
    if cut.get("spans"):
        return f"{text}{cut['spans']} of {cut['of_spans']} spans lie behind: they are not learned, and count as missed"
    return f"{text}what is behind is not read"
