"""The rows of a data set, whatever file they came from. Plain types, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts that are judged together."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a sound, still encoded as it was uploaded, with the name it had.

    `extent` is what decoding it yields, once that was tried: pixels of a picture, samples of a sound in all channels.
    """

    name: str
    data: bytes
    extent: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch of a text in characters, `end` exclusive."""

    start: int
    end: int
    label: str


Input = str | TextPair | Media
Target = str | tuple[str, ...] | float | tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One row: input, target, and its row number in the file (1-based, header not counted).

    Rows of one `group` (a document, a patient, a film; empty: none) are held out together.
    """

    input: Input
    target: Target
    row: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class DatasetProfile:
    """Properties of a file that validation found. JSON-ready through `dataclasses.asdict`."""

    format: str  # csv, jsonl, parquet, chat, zip
    task: str
    rows: int
    columns: dict[str, str]  # canonical name → the file's own name
    labels: dict[str, int]  # label → rows that carry it, in order of first appearance
    warnings: list[dict[str, Any]]
    words: dict[str, int] = field(default_factory=dict)  # "256" → texts of more than 256 words
    role: str = "training"  # or "validation": to score on, not to learn from
