"""Public data sets beside the checkout (`GRAFT_SHARED_DIR`, else ../shared). None of them is part of the project."""

from __future__ import annotations

import csv
import os
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

_Row = TypeVar("_Row")
Rows = list[tuple[str, str]]  # text, label
SAMPLES = Path(__file__).parents[2] / "deploy" / "cli" / "samples" / "tickets.csv"


def place() -> Path:
    """Where the data sets and base models would be."""
    default = Path(__file__).parents[2].parent / "shared"
    return Path(os.environ.get("GRAFT_SHARED_DIR", default))


def folder() -> Path:
    """Where the data sets and base models are; skips the benchmark if they are not."""
    found = place()
    if not (found / "data").is_dir():
        pytest.skip(f"no public data sets at {found}: set GRAFT_SHARED_DIR")
    return found


def text_rows(name: str, split: str, *, text: str = "text", label: str = "label") -> Rows:
    """One split of a CSV data set."""
    with (folder() / "data" / name / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def short_texts() -> tuple[str, Rows, Rows]:
    """Name, training and test rows of short texts: banking77, or without it the project's own sample tickets."""
    if (place() / "data" / "banking77").is_dir():
        train, test = (text_rows("banking77", split, label="category") for split in ("train", "test"))
        return "banking77", train, test
    with SAMPLES.open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    return "sample tickets", rows[: len(rows) // 2], rows[len(rows) // 2 :]


def few_per_class(rows: Sequence[_Row], count: int, *, label_of: Callable[[_Row], str], seed: int) -> list[_Row]:
    """`count` rows of every class, or all that it has, drawn with a seed."""
    by_label: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_label[label_of(row)].append(row)
    rng = random.Random(seed)
    return [row for _, found in sorted(by_label.items()) for row in rng.sample(found, min(count, len(found)))]


def write_csv(rows: Rows, path: Path) -> Path:
    """With the columns that Graft knows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return path
