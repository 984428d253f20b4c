"""The rows of a data set, whatever file they came from. Plain types, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


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


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle in a picture, in the pixels of the picture as it is seen: upright, whatever its EXIF says.

    The origin is the upper left corner; `right` and `bottom` are exclusive, and 0 <= left < right <= width. A picture
    without boxes is an example, too: of what is not to be found.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages before an answer, as JSON: a list of {role, content, …}, and the tools that may be called.

    An answer of the assistant among them is learned, too, unless its `weight` is 0. `text`: there are no messages, and
    the answer is a text of which every next word is learned.
    """

    messages: str
    tools: str = ""
    form: Literal["chat", "text"] = "chat"


@dataclass(frozen=True, slots=True)
class Answer:
    """A text to be written; `calls` of tools as JSON; `rejected` is a worse one of a pair, with its own calls."""

    text: str
    calls: str = ""
    rejected: str | None = None
    rejected_calls: str = ""


Input = str | TextPair | Media | Conversation
Target = str | tuple[str, ...] | float | tuple[Span, ...] | tuple[Box, ...] | Answer


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
    long_rows: dict[str, list[int]] = field(default_factory=dict)  # "256" → the first rows with such texts
    role: str = "training"  # or "validation": to score on; or "unlabeled": rows without answers
