"""Answers written to held-out rows, beside the true ones: exact matches, chrF, and a few to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.datasets.examples import Answer, Conversation
from models.learning.generation import decoding, rows
from models.learning.generation.network import WritingNetwork

SHOWN = 10
_WRITTEN = 16  # rows that are answered: one batch
_MOST_TOKENS = 256
_SPARE = 1.5  # times the longest true answer


@dataclass(frozen=True, slots=True)
class Written:
    """The answers of one model to the first held-out rows."""

    texts: list[str]
    figures: dict[str, Any]


def write(
    backbone: DecoderBackbone,
    network: WritingNetwork,
    held: Sequence[tuple[Conversation, Answer]],
    prompt: Prompt,
    *,
    stop: Callable[[], bool],
) -> Written | None:
    """Answer some held-out rows; None for texts without questions."""
    chosen = [row for row in held if row[0].form == "chat"][:_WRITTEN]
    if not chosen:
        return None
    asked = [rows.asked_tokens(backbone, conversation, prompt) for conversation, _ in chosen]
    longest = max(len(backbone.encode_text(answer.text)) for _, answer in chosen)
    room = backbone.max_tokens - max(map(len, asked))
    most = max(1, min(_MOST_TOKENS, int(_SPARE * longest) + 8, room))
    texts = [backbone.decode(tokens) for tokens in decoding.write(network, asked, most=most, stop=stop)]
    truths = [answer.text for _, answer in chosen]
    same = [_plain(text) == _plain(truth) for text, truth in zip(texts, truths, strict=True)]
    figures: dict[str, Any] = {"rows": len(texts), "exact_match": float(np.mean(same))}
    if (chrf := _chrf(texts, truths)) is not None:
        figures["chrf"] = chrf
    return Written(texts, figures)


def side_by_side(
    held: Sequence[tuple[Conversation, Answer]], written: dict[str, Written | None]
) -> list[dict[str, Any]]:
    """Return some rows with every model's answer and the true one."""
    asked = [row for row in held if row[0].form == "chat"][:SHOWN]
    shown = []
    for at, (conversation, answer) in enumerate(asked):
        messages = json.loads(conversation.messages)
        row: dict[str, Any] = {"asked": str(messages[-1]["content"]) if messages else "", "truth": answer.text}
        row.update({name: found.texts[at] for name, found in written.items() if found is not None})
        shown.append(row)
    return shown


def _plain(text: str) -> str:
    return " ".join(text.split())


def _chrf(texts: list[str], truths: list[str]) -> float | None:
    try:
        from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415  (of the extra `generation`)
    except ImportError:
        return None
    return float(CHRF().corpus_score(texts, [truths]).score)
