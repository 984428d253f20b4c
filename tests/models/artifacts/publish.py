"""Makes the folders below `published`: `PYTHONPATH=$PWD python -m tests.models.artifacts.publish`.

They stand for what customers have: a change of layout or of training leaves them as they are. Run it for a new kind
of version only; what is there already is not touched.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts.folder import read_artifact
from models.backbones import loading
from models.datasets.examples import TextPair
from models.datasets.validation import Limits, inspect
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.training import train
from tests.models.backbones import text_checkpoints
from tests.models.learning import inference

PUBLISHED = Path(__file__).parent / "published"
BASE = PUBLISHED / "base"
WIDTH, BLOCKS = 16, 2

_THINGS = ("lamp", "chair", "kettle", "tent")
_MOODS = {"lovely": 0.9, "fine": 0.7, "odd": 0.4, "broken": 0.15}  # word → share of praise


def main() -> None:
    """Train one small version of each kind, and write down what it says."""
    if not BASE.exists():
        text_checkpoints.write(BASE, width=WIDTH, blocks=BLOCKS)
    _publish("head-with-terms", _feelings(), "head", {"lexical": True, "features": "last"})
    _publish("lora", _several(), "lora", {"lora_rank": 2, "n_epochs": 2, "features": "last", "lexical": False})
    _publish("partial", _pairs(), "partial", {"trainable_blocks": 1, "n_epochs": 2, "features": "last"})


def _publish(name: str, rows: list[dict[str, Any]], strategy: Any, hyperparameters: dict[str, Any]) -> None:
    folder = PUBLISHED / name
    if folder.exists():
        return
    entry = text_checkpoints.describe(BASE, width=WIDTH, blocks=BLOCKS)
    backbone = loading.load(entry, device="cpu", precision="fp32", threads=1)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        found = inspect(path, filename=path.name, limits=Limits())
        request = TrainRequest(
            training=DatasetSource(path, found.format, found.columns), task=found.task, output_dir=Path(place) / "out",
            strategy=strategy, hyperparameters=Hyperparameters(**hyperparameters), threads=1,
        )  # fmt: skip
        for event in train(request, backbone, stop=lambda: False):
            if isinstance(event, VersionReady) and event.name == strategy:
                shutil.copytree(event.artifact_dir, folder)
    asked: list[Any] = [
        TextPair(row["text"], row["text_pair"]) if "text_pair" in row else row["text"] for row in rows[::8]
    ]
    said = inference.predict(read_artifact(folder), backbone, asked, top_k=2)
    answers = [
        {"input": item if isinstance(item, str) else asdict(item), "prediction": prediction}
        for item, prediction in zip(asked, said, strict=True)
    ]
    (folder / "predictions.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _feelings() -> list[dict[str, Any]]:
    """Not everybody means the same by a word: scores between 0 and 1 show a mistake, certain ones would hide it."""
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(48):
        mood, thing = generator.choice(list(_MOODS)), generator.choice(_THINGS)
        label = "praise" if generator.uniform() < _MOODS[mood] else "complaint"
        rows.append({"text": f"{mood} {thing}", "label": label})
    return rows


def _several() -> list[dict[str, Any]]:
    return [
        {"text": row["text"], "labels": [row["label"], *(["wood"] if number % 3 and "i" in row["text"] else [])]}
        for number, row in enumerate(_feelings())
    ]


def _pairs() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(32):
        first, second = (str(each) for each in generator.choice(_THINGS, 2))
        value = 20.0 + 5.0 * float(first == second) + round(generator.normal(), 2)
        rows.append({"text": f"a {first}", "text_pair": f"the {second}", "value": value})
    return rows


if __name__ == "__main__":
    main()
