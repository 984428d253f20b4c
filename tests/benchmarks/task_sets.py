"""Public data sets as their users would send them, one builder per set: rows to upload, rows to be judged by.

A row is a dict by Graft's own column names (`text`, `label`, …); a picture or a sound is the path of its file.
"""

from __future__ import annotations

import csv
import json
import random
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks import public_data

Row = dict[str, Any]
SEED = 0

_MEDIA = {"image-classification": "image", "audio-classification": "audio", "object-detection": "image"}


@dataclass(frozen=True)
class TaskSet:
    """`train` goes up as one file; `test` never leaves the benchmark but as inputs of predictions."""

    task: str
    train: list[Row]
    test: list[Row]

    @property
    def medium(self) -> str | None:
        """`image` or `audio`; None for texts."""
        return _MEDIA.get(self.task)

    def write(self, folder: Path) -> Path:
        """The file that is uploaded: CSV, JSONL, or a zip with one folder per label."""
        if self.medium is not None:
            path = folder / "train.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for row in self.train:
                    archive.write(row[self.medium], f"{row['label']}/{Path(row[self.medium]).name}")
        elif self.task == "text-classification":
            path = public_data.write_csv([(row["text"], row["label"]) for row in self.train], folder / "train.csv")
        else:
            path = folder / "train.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in self.train), encoding="utf-8")
        return path


def few(data: TaskSet, per_class: int, seed: int = SEED) -> TaskSet:
    """The same with `per_class` rows of every class to train on."""
    train = public_data.few_per_class(data.train, per_class, label_of=lambda row: str(row["label"]), seed=seed)
    return replace(data, train=train)


def drawn(rows: list[Row], most: int, seed: int = SEED) -> list[Row]:
    """At most so many of the rows, in their order."""
    if len(rows) <= most:
        return rows
    return [rows[place] for place in sorted(random.Random(seed).sample(range(len(rows)), most))]


def banking77() -> TaskSet:
    """77 intents."""
    return _labelled("banking77", label="category")


def sms_spam() -> TaskSet:
    """Spam or not."""
    return _labelled("sms_spam")


def trec() -> TaskSet:
    """Six classes of questions."""
    return _labelled("trec")


def xquad_de() -> TaskSet:
    """Which of 48 articles a German sentence or question is about: the last paragraph of each article is the test."""
    source = json.loads((_data("xquad") / "xquad.de.json").read_text("utf-8"))
    train: list[Row] = []
    test: list[Row] = []
    for article in source["data"]:
        *others, last = article["paragraphs"]
        for part, paragraphs in ((train, others), (test, [last])):
            for paragraph in paragraphs:
                texts = re.split(r"(?<=[.!?])\s+(?=[A-ZÄÖÜ])", paragraph["context"].strip())
                texts += [question["question"] for question in paragraph["qas"]]
                part += [{"text": text, "label": article["title"]} for text in texts if text.strip()]
    return TaskSet("text-classification", train, test)


def stsb(language: str) -> TaskSet:
    """How near two sentences are, from 0 to 5."""

    def rows(split: str) -> list[Row]:
        with (_data("stsb") / f"{language}_{split}.csv").open(newline="", encoding="utf-8") as file:
            return [
                {"text": row["sentence1"], "text_pair": row["sentence2"], "value": float(row["score"])}
                for row in csv.DictReader(file)
            ]

    return TaskSet("text-regression", rows("train"), rows("test"))


def nlupp_banking() -> TaskSet:
    """48 intents, several per row or none: folds 0 to 15, tested on 16 to 19."""

    def rows(folds: range) -> list[Row]:
        found = [
            row
            for fold in folds
            for row in json.loads((_data("nlupp_banking") / f"fold{fold}.json").read_text("utf-8"))
        ]
        return [{"text": row["text"], "labels": row.get("intents", [])} for row in found]

    return TaskSet("multi-label-classification", rows(range(16)), rows(range(16, 20)))


def wnut17() -> TaskSet:
    """Six kinds of rare names in tweets: tokens and tags go up, spans in characters come back."""

    def rows(split: str) -> list[Row]:
        lines = (_data("wnut17") / f"{split}.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    test = [{"text": " ".join(row["tokens"]), "spans": spans_of(row["tokens"], row["tags"])} for row in rows("test")]
    return TaskSet("token-classification", rows("train"), test)


def restaurant8k() -> TaskSet:
    """People, date, time and names in requests for a table."""

    def rows(split: str, *, overlapping: bool) -> list[Row]:
        found = []
        for item in json.loads((_data("restaurant8k") / f"{split}.json").read_text("utf-8")):
            spans = [
                {
                    "start": int(label["valueSpan"].get("startIndex", 0)),
                    "end": int(label["valueSpan"]["endIndex"]),
                    "label": label["slot"],
                }
                for label in item.get("labels", [])
            ]
            spans.sort(key=lambda span: span["start"])
            found.append({"text": item["userInput"]["text"], "spans": spans if overlapping else _apart(spans)})
        return found

    # Spans that overlap are refused at the upload; in the test they stay and count as missed.
    return TaskSet("token-classification", rows("train_0", overlapping=False), rows("test", overlapping=True))


def hymenoptera() -> TaskSet:
    """Photos of ants and bees. Only the JPEGs: among them is a GIF that says that the image was not found."""

    def rows(split: str) -> list[Row]:
        files = sorted((_data("hymenoptera") / split).rglob("*.jpg"))
        return [{"image": str(file), "label": file.parent.name} for file in files]

    return TaskSet("image-classification", rows("train"), rows("val"))


def fsdd_digits() -> TaskSet:
    """Spoken digits of four speakers; the test has other recordings of the same speakers."""

    def rows(split: str) -> list[Row]:
        folder = _data("fsdd_speakers_a")
        with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            return [{"audio": str(folder / row["file"]), "label": row["label"]} for row in csv.DictReader(file)]

    return TaskSet("audio-classification", rows("train"), rows("test"))


def spans_of(tokens: Sequence[str], tags: Sequence[str]) -> list[Row]:
    """IOB tags of tokens that are joined by spaces, as spans in characters."""
    spans: list[Row] = []
    start, before = 0, "O"
    for token, tag in zip(tokens, tags, strict=True):
        prefix, _, label = tag.partition("-")
        if prefix == "I" and before.partition("-")[2] == label:
            spans[-1]["end"] = start + len(token)
        elif prefix != "O":
            spans.append({"start": start, "end": start + len(token), "label": label})
        start, before = start + len(token) + 1, tag
    return spans


def _labelled(name: str, *, label: str = "label") -> TaskSet:
    train, test = (
        [{"text": text, "label": of} for text, of in public_data.text_rows(name, split, label=label)]
        for split in ("train", "test")
    )
    return TaskSet("text-classification", train, test)


def _data(name: str) -> Path:
    return public_data.folder() / "data" / name


def _apart(spans: list[Row]) -> list[Row]:
    """Of spans that overlap, the first."""
    kept: list[Row] = []
    for span in spans:
        if not kept or span["start"] >= kept[-1]["end"]:
            kept.append(span)
    return kept
