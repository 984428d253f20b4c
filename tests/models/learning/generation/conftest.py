"""A tiny base that writes, and jobs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
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
    return load_decoder(entry, device="cpu", precision="fp32", threads=1)


def chat(question: str, answer: str, system: str = "Be brief.") -> dict[str, Any]:
    asked = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return {"messages": [*asked, {"role": "assistant", "content": answer}]}


def colours(rows: int = 24) -> list[dict[str, Any]]:
    """Answers that follow from the questions."""
    return [chat(f"n{number}", f"{'abcdef'[number % 6] * 3}{number}") for number in range(rows)]


@pytest.fixture(scope="session")
def ask_in() -> Ask:
    """Make the request of a job on some rows, in a folder."""

    def ask(
        folder: Path, rows: list[dict[str, Any]], strategy: str = "auto", *, seed: int = 0, **hyperparameters: Any
    ) -> TrainRequest:
        path = folder / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
        found = inspect(path, filename=path.name, task="text-generation", limits=Limits())
        return TrainRequest(
            DatasetSource(path, found.format, found.columns, "sha"),
            found.task,
            folder / "output",
            "tiny-writer",
            strategy=strategy,  # type: ignore[arg-type]
            hyperparameters=Hyperparameters(**hyperparameters),
            seed=seed,
            checkpoint_dir=folder / "checkpoints",
        )

    return ask


@pytest.fixture
def ask(ask_in: Ask, tmp_path: Path) -> Ask:
    """Make the request of a job on some rows, in the test's own folder."""
    return partial(ask_in, tmp_path)
