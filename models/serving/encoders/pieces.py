"""Long texts in pieces: windows of one input that leave in several passes, so that none is longer than others.

A text of 8,192 tokens in one pass would keep everybody waiting for as long as 32 full rows take. Its pieces wait like
rows of their customer; what was computed of each is kept until all of them are there, and the head sees them as if they
had left together.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from models.backbones.windows import WindowRow
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.heads import apply_heads
from models.serving.encoders.input_modes import Piece, parts_of, texts_of
from models.serving.encoders.long_input import LongInput
from models.serving.encoders.requests import Floats, QueuedInput


def divide(row: QueuedInput, most: int) -> list[QueuedInput]:
    """Return the pieces of a long text with more than `most` tokens, each with up to so many, or one window.

    Of any other row, the row.
    """
    if len(row.tokenized) <= most or not any(isinstance(text, WindowRow) for text in texts_of(row.tokenized)):
        return [row]
    pieces: list[list[Any]] = [[]]
    for part in parts_of(row.tokenized):
        if pieces[-1] and sum(map(len, pieces[-1])) + len(part) > most:
            pieces.append([])
        pieces[-1].append(part)
    long = LongInput(row.tokenized, len(pieces))
    found = []
    for number, own in enumerate(pieces):
        piece = Piece(number, tuple(own))
        found.append(QueuedInput(row.owner, row.index, row.input, len(piece), piece, long, counted=number == 0))
    return found


def gather(rows: Sequence[QueuedInput], outputs: Sequence[Any], lock: threading.Lock) -> list[Floats | None]:
    """Return the outputs of inputs; None for pieces of inputs of which others are missing."""
    found: list[Floats | None] = []
    for row, output in zip(rows, outputs, strict=True):
        long = row.long
        if long is None:
            found.append(output)
            continue
        with lock:
            is_complete = long.keep(row.tokenized.number, output)
        found.append(_answer(long, row.owner.adapter) if is_complete else None)
    return found


@torch.inference_mode()
def _answer(long: LongInput, adapter: Adapter) -> Floats:
    (output,) = apply_heads(long.joined(), [adapter])
    return output
