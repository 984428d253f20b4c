"""A tiny base that writes, and jobs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.backbones.writing import DecoderBackbone, load_decoder
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from tests.models.backbones import decoder_checkpoints

Ask = Callable[..., TrainRequest]


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> DecoderBackbone:
    entry = decoder_checkpoints.write(tmp_path_factory.mktemp("writer") / "base")
    return load_decoder(entry, device="cpu", precision="fp32", threads=2)


def chat(question: str, answer: str, system: str = "Be brief.") -> dict[str, Any]:
    asked = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return {"messages": [*asked, {"role": "assistant", "content": answer}]}


def colours(rows: int = 24) -> list[dict[str, Any]]:
    """Answers that follow from the questions."""
    return [chat(f"n{number}", f"{'abcdef'[number % 6] * 3}{number}") for number in range(rows)]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Make the request of a job on some rows."""

    def ask(rows: list[dict[str, Any]], strategy: str = "auto", **hyperparameters: Any) -> TrainRequest:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
        found = inspect(path, filename=path.name, task="text-generation", limits=Limits())
        return TrainRequest(
            DatasetSource(path, found.format, found.columns, "sha"),
            found.task,
            tmp_path / "output",
            "tiny-writer",
            strategy=strategy,  # type: ignore[arg-type]
            hyperparameters=Hyperparameters(**hyperparameters),
            checkpoint_dir=tmp_path / "checkpoints",
        )

    return ask
