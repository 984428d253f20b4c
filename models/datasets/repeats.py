"""Inputs that occur more than once, texts compared without case and white space: 24 bytes of memory per row."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from models.datasets.examples import Answer, Conversation, Example, Input, Media, TextPair

_SHOWN = 5


class Repeats:
    """Collects a hash of every input and target; finds equal ones at the end."""

    def __init__(self, noun: str = "text", target: str = "label") -> None:
        self._noun, self._target = noun, target
        self._inputs = array("q")
        self._targets = array("q")
        self._rows = array("q")

    def add(self, example: Example) -> None:
        """Remember one example by its hashes."""
        self._inputs.append(hash(normalised(compared(example))))
        target = example.target
        # The order of a row's labels, spans or boxes means nothing.
        self._targets.append(hash(tuple(sorted(map(hash, target))) if isinstance(target, tuple) else target))
        self._rows.append(example.row)

    def warnings(self) -> list[dict[str, Any]]:
        """Return warnings, with row numbers, of near-duplicates and of inputs whose label differs from row to row."""
        if not self._inputs:
            return []
        inputs_N = np.frombuffer(self._inputs, dtype=np.int64)
        targets_N = np.frombuffer(self._targets, dtype=np.int64)
        if self._noun == "prompt":  # it may well have several answers: a row repeats another if both are the same
            inputs_N = np.array([hash(pair) for pair in zip(self._inputs, self._targets, strict=True)], dtype=np.int64)
        rows_N = np.frombuffer(self._rows, dtype=np.int64)
        order_N = np.argsort(inputs_N, kind="stable")
        starts_G = np.flatnonzero(np.diff(inputs_N[order_N], prepend=inputs_N[order_N[0]] - 1))
        ends_G = np.append(starts_G[1:], len(order_N))
        repeated: list[list[int]] = []
        conflicting: list[list[int]] = []
        extra = 0
        for start, end in zip(starts_G, ends_G, strict=True):
            if end - start < 2:
                continue
            members = order_N[start:end]
            rows = [int(row) for row in rows_N[members]]
            if len(np.unique(targets_N[members])) > 1:
                conflicting.append(rows)
            else:
                repeated.append(rows)
                extra += len(rows) - 1
        found = self._noun, self._target
        return [*_duplicates(*found, repeated, extra), *_conflicts(*found, conflicting)]


def _duplicates(noun: str, target: str, groups: list[list[int]], extra: int) -> list[dict[str, Any]]:
    if not groups:
        return []
    alike = " (case and spaces aside)" if noun in ("text", "prompt") else ""
    message = (
        f"{extra} row{'s repeat' if extra > 1 else ' repeats'} the {noun} and {target} of an earlier row{alike}, "
        f"first in rows {_listed(min(groups))}. Repeats make scores look better than they are."
    )
    return [{"code": "near_duplicates", "message": message, "count": extra, "rows": _first(groups)}]


def _conflicts(noun: str, target: str, groups: list[list[int]]) -> list[dict[str, Any]]:
    if not groups:
        return []
    count = len(groups)
    several, meant = (target, "are") if target.endswith("s") else (f"{target}s", "is")
    message = (
        f"{count} {noun}{'s occur' if count > 1 else ' occurs'} with different {several}, first in rows "
        f"{_listed(min(groups))}. No model can get both right; check which {target} {meant} meant."
    )
    return [{"code": "conflicting_labels", "message": message, "count": count, "rows": _first(groups)}]


def _first(groups: list[list[int]]) -> list[list[int]]:
    return [rows[:_SHOWN] for rows in sorted(groups)[:_SHOWN]]


def _listed(rows: list[int]) -> str:
    return ", ".join(str(row) for row in rows[:_SHOWN])


def compared(example: Example) -> Input:
    """Return what makes a row like another: its input, or of a text whose every next word is learned that text."""
    item, target = example.input, example.target
    if isinstance(item, Conversation) and item.form == "text" and isinstance(target, Answer):
        return target.text
    return item


def normalised(value: object) -> object:
    """Return an input as it is compared: without case and white space."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, TextPair):
        return (normalised(value.first), normalised(value.second))
    if isinstance(value, Conversation):
        return (normalised(value.messages), value.tools)
    return value.data if isinstance(value, Media) else value
