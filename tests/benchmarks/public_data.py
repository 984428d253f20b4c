"""Public data sets beside the checkout (`GRAFT_SHARED_DIR`, else ../shared). None of them is part of the project."""

from __future__ import annotations

import csv
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest

Rows = list[tuple[str, str]]  # text, label


def folder() -> Path:
    """Where the data sets and base models are; skips the benchmark if they are not."""
    default = Path(__file__).parents[2].parent / "shared"
    found = Path(os.environ.get("GRAFT_SHARED_DIR", default))
    if not (found / "data").is_dir():
        pytest.skip(f"no public data sets at {found}: set GRAFT_SHARED_DIR")
    return found


def text_rows(name: str, split: str, *, text: str = "text", label: str = "label") -> Rows:
    """One split of a CSV data set."""
    with (folder() / "data" / name / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def few_per_class(rows: Rows, count: int, *, seed: int) -> Rows:
    """`count` rows of every class, drawn with a seed."""
    by_label: dict[str, Rows] = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row)
    rng = random.Random(seed)
    return [row for label in sorted(by_label) for row in rng.sample(by_label[label], count)]


def write_csv(rows: Rows, path: Path) -> Path:
    """With the columns that Graft knows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return path
