"""Learning to write, measured: `make bench-generation ROWS=1,2,4,9`.

| row | measure |
| --- | --- |
| 1 | E2E NLG, 600 training rows: sacreBLEU against all references of 150 meanings, of base, few-shot and lora |
| 2 | Hugging Face's Trainer with PEFT on the same rows, padded: held-out loss, training tokens per second |
| 4 | seconds from the POST of a job to the first answer over HTTP, base cold and warm |
| 9 | bytes of a further customer beside a copy of the base |

Every row prints what it measured as a line of JSON, with the versions of the libraries and the load of the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.artifacts.folder import read_artifact
from models.artifacts.prompt import Prompt
from models.backbones import registry
from models.backbones.writing import DecoderBackbone, load_decoder
from models.datasets.examples import Conversation
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from models.learning import training
from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.generation import decoding
from models.learning.generation import rows as token_rows
from models.learning.generation.network import frozen, of_parts
from models.settings import Settings
from tests.benchmarks import generation_over_http, generation_peer, public_data

_ROWS, _MEANINGS, _BATCH = 600, 150, 16
_LEARNING = {"n_epochs": 1, "learning_rate": 5e-4, "lora_rank": 8, "batch_size": 8}


def main() -> None:
    """Measure the rows that were asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1,2,4,9")
    parser.add_argument("--training-rows", type=int, default=_ROWS)
    parser.add_argument("--meanings", type=int, default=_MEANINGS)
    parser.add_argument("--peer-rows", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=_LEARNING["n_epochs"])
    asked = parser.parse_args()
    wanted = asked.rows.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if {"1", "2", "9"} & set(wanted):
            settings = Settings()
            base = load_decoder(registry.find(settings, "smollm2"), threads=asked.threads)
            if "1" in wanted:
                _print(1, _bleu(base, folder, asked.training_rows, asked.meanings, asked.epochs))
            if "2" in wanted:
                _print(2, _peer(base, folder, asked.peer_rows))
            if "9" in wanted:
                _print(9, _bytes(base, folder))
        if "4" in wanted:
            _print(4, generation_over_http.first_answer(_chats(folder, 200), folder))


def _bleu(base: DecoderBackbone, folder: Path, rows: int, meanings: int, epochs: int) -> dict[str, Any]:
    """Return BLEU of the base, of examples in the prompt, and of low-rank matrices."""
    from sacrebleu.metrics.bleu import BLEU

    request = _request(_chats(folder, rows), folder, {**_LEARNING, "n_epochs": epochs})
    versions: dict[str, Path] = {}
    report: dict[str, Any] = {}
    for event in training.train(request, base, stop=lambda: False):
        if isinstance(event, VersionReady):
            versions[event.name] = event.artifact_dir
        elif isinstance(event, Finished):
            report = event.report
        elif isinstance(event, Progress) and "validation_loss" in event.metrics:
            print(event.message, flush=True)
    references = _test_references(meanings)
    found: dict[str, Any] = {}
    for name in ("zero-shot", "few-shot", "lora"):
        parts, prompt = (), Prompt()
        if name in versions:
            artifact = read_artifact(versions[name])
            parts, prompt = artifact.parts, Prompt.of(artifact.manifest)
        network = of_parts(base, parts) if parts else frozen(base)
        texts: list[str] = []
        for batch in _batches(list(references)):
            conversations = [Conversation(json.dumps([{"role": "user", "content": meaning}])) for meaning in batch]
            asked = [token_rows.asked_tokens(base, conversation, prompt) for conversation in conversations]
            texts += [base.decode(tokens) for tokens in decoding.write(network, asked, most=96, stop=lambda: False)]
        most = max(map(len, references.values()))
        padded = [[refs[at] if at < len(refs) else None for refs in references.values()] for at in range(most)]
        found[name] = round(BLEU().corpus_score(texts, padded).score, 2)
        print(name, found[name], texts[:2], flush=True)
    figures = {key: report[key] for key in ("tokens_per_second", "steps")}
    tried = {entry["name"]: round(entry["loss"], 4) for entry in report["strategies_tried"]}
    return {"bleu": found, "held_out_loss": tried, "seconds": report["seconds"], **figures, "goal": "lora ≥ 55"}


def _peer(base: DecoderBackbone, folder: Path, rows: int) -> dict[str, Any]:
    """Return our fit and the peer's on the same rows, in turn."""
    request = _request(_chats(folder, rows), folder, _LEARNING)
    ours: dict[str, Any] = {}
    for event in training.train(request, base, stop=lambda: False):
        if isinstance(event, Finished):
            ours = event.report
    lora = next(entry for entry in ours["strategies_tried"] if entry["name"] == "lora")
    theirs = generation_peer.fit(base, request, _LEARNING)
    # Both read the same rows: the same real tokens, over the seconds that each took.
    mine = {"loss": lora["loss"], "seconds": lora["seconds"], "tokens_per_second": theirs["tokens"] / lora["seconds"]}
    return {
        "ours": {**mine, "precision": str(base.dtype)},
        "peer": theirs,
        "loss_ratio": mine["loss"] / theirs["loss"],
        "speed_ratio": mine["tokens_per_second"] / theirs["tokens_per_second"],
        "goal": "loss within 1 %, speed ≥ 1.5",
    }


def _bytes(base: DecoderBackbone, folder: Path) -> dict[str, Any]:
    """Return the bytes of a version of rank 8 beside the base's, in the number format in which both are served."""
    from models.artifacts.folder import Artifact, write_artifact
    from models.artifacts.manifest import Manifest
    from models.learning.generation.network import low_rank

    manifest = Manifest("text-generation", "lora", (), (), base.entry.name, base.revision)
    write_artifact(Artifact(manifest, low_rank(base, 8, seed=0).parts(base.dtype)), folder / "bytes")
    own = sum(path.stat().st_size for path in (folder / "bytes").iterdir())
    copy = sum(
        value.numel() * value.element_size() for value in {p.data_ptr(): p for p in base.network.parameters()}.values()
    )
    return {"version": own, "base": copy, "share": own / copy, "goal": "≤ 0.02"}


def _request(path: Path, folder: Path, hyperparameters: dict[str, Any]) -> TrainRequest:
    found = inspect(path, filename=path.name, task="text-generation", limits=Limits())
    source = DatasetSource(path, found.format, found.columns)
    output = Path(tempfile.mkdtemp(dir=folder))
    asked = Hyperparameters(**hyperparameters)
    return TrainRequest(source, found.task, output, "smollm2", strategy="lora", hyperparameters=asked)


def _chats(folder: Path, rows: int) -> Path:
    with (public_data.folder() / "data" / "e2e_nlg" / "train.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    random.Random(0).shuffle(found)
    path = folder / f"e2e-{rows}.jsonl"
    lines = []
    for row in found[:rows]:
        messages = [{"role": "user", "content": row["mr"]}, {"role": "assistant", "content": row["ref"]}]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines), "utf-8")
    return path


def _test_references(meanings: int) -> dict[str, list[str]]:
    references: dict[str, list[str]] = defaultdict(list)
    with (public_data.folder() / "data" / "e2e_nlg" / "test.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            references[row["mr"]].append(row["ref"])
    chosen = random.Random(0).sample(sorted(references), min(meanings, len(references)))
    return {meaning: references[meaning] for meaning in chosen}


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _print(row: int, figures: dict[str, Any]) -> None:
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "sacrebleu")}
    load = [round(value, 1) for value in os.getloadavg()]
    machine = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "load": load, **versions}
    print(json.dumps({"row": row, "at": int(time.time()), **figures, "machine": machine}, default=str), flush=True)


if __name__ == "__main__":
    main()
