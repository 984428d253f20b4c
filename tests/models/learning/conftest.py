from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from models.backbones import loading, registry
from models.backbones.text import TextBackbone
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from tests.device import DEVICE
from tests.models.backbones import text_checkpoints

SAMPLES = Path(__file__).parents[3] / "deploy" / "cli" / "samples"


@pytest.fixture(scope="session")
def backbone() -> TextBackbone:
    return loading.load(registry.MINILM, device=DEVICE, threads=1)


@pytest.fixture(scope="session")
def small_backbone(tmp_path_factory: pytest.TempPathFactory) -> TextBackbone:
    """A base with random weights, for what does not depend on how good the features are."""
    entry = text_checkpoints.write(tmp_path_factory.mktemp("small"), blocks=6)
    return loading.load(entry, device=DEVICE, threads=1)


@pytest.fixture(scope="session")
def tickets() -> list[tuple[str, str]]:
    """The shipped training sample: (text, label)."""
    with (SAMPLES / "tickets.csv").open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def few(tickets: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Eight rows of each class, in the order of the file."""
    seen: dict[str, int] = {}
    chosen = []
    for text, label in tickets:
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 8:
            chosen.append((text, label))
    return chosen


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frozen features of the rows that several tests train on; the processes of one session share them."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "features"


@pytest.fixture
def make_request(tmp_path: Path, feature_cache: Path) -> Callable[..., TrainRequest]:
    """A request for rows that are written to a file of their own."""
    count = 0

    def write(rows: list[tuple[str, str]]) -> DatasetSource:
        nonlocal count
        count += 1
        path = tmp_path / f"rows-{count}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        return DatasetSource(path, "csv", {"text": "text", "label": "label"})

    def make(
        rows: list[tuple[str, str]],
        *,
        validation: list[tuple[str, str]] | None = None,
        hyperparameters: dict[str, object] | None = None,
        **fields: object,
    ) -> TrainRequest:
        values: dict[str, object] = {
            "task": "text-classification",
            "strategy": "head",
            "seed": 7,
            "threads": 1,
            "feature_cache_dir": feature_cache,
            **fields,
        }
        return TrainRequest(
            training=write(rows),
            validation=write(validation) if validation else None,
            output_dir=tmp_path / f"out-{count}",
            hyperparameters=Hyperparameters(**(hyperparameters or {})),  # type: ignore[arg-type]
            **values,  # type: ignore[arg-type]
        )

    return make
