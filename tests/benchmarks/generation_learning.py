"""Learning to write, measured: `make bench-generation ROWS=1,2,3,4,9`; `QUICK=1` to see that all of it runs.

| row | measure |
| --- | --- |
| 1 | E2E NLG, 600 training rows: sacreBLEU against all references of 150 meanings, of base, few-shot and lora |
| 2 | Hugging Face's Trainer with PEFT on the same rows, padded: held-out loss, training tokens per second, BLEU |
| 3 | restaurant8k, 400 rows as JSON answers with a schema: valid JSON, slot F1; a span head beside it |
| 4 | seconds from the POST of a job to the first answer over HTTP, base cold and warm |
| 9 | bytes of a further customer beside a copy of the base |

Row 1 is the job as a customer starts it, with epochs and rate of its own choice; in row 2 ours and the peer are told
both. Every row prints what it measured as a line of JSON, with the versions of the libraries, the threads and the load
of the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.artifacts.folder import read_artifact
from models.artifacts.parts import Part
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
from tests.benchmarks import generation_over_http, generation_peer, generation_slots, public_data

_BATCH = 16
_AS_PEER = {"n_epochs": 1, "learning_rate": 5e-4, "lora_rank": 8, "batch_size": 8}
_FULL = {"training_rows": 600, "meanings": 150, "slot_rows": 400, "slot_tests": 200, "first_answer_rows": 200}
_QUICK = {"training_rows": 40, "meanings": 6, "slot_rows": 40, "slot_tests": 8, "first_answer_rows": 24}
_TREE = Path(__file__).parents[2]


@dataclass(frozen=True)
class _Ours:
    """One job of ours: its request, its versions, its report."""

    request: TrainRequest
    versions: dict[str, Path]
    report: dict[str, Any]

    @property
    def lora(self) -> dict[str, Any]:
        """What the report says of the trained version."""
        found: dict[str, Any] = next(each for each in self.report["strategies_tried"] if each["name"] == "lora")
        return found


def main() -> None:
    """Measure the rows that were asked for."""
    sizes = _QUICK if os.environ.get("QUICK", "") not in ("", "0") else _FULL
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1,2,4,9")
    for name, default in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    wanted = set(asked.rows.split(","))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if {"1", "2", "9"} & wanted:
            _learn(wanted, asked, folder)
        if "3" in wanted:
            _print(3, generation_slots.measure(folder / "3", _TREE, train=asked.slot_rows, test=asked.slot_tests))
        if "4" in wanted:
            _print(4, generation_over_http.first_answer(_chats(folder, asked.first_answer_rows), folder / "4", _TREE))


def _learn(wanted: set[str], asked: argparse.Namespace, folder: Path) -> None:
    base = load_decoder(registry.find(Settings(), "smollm2"), threads=asked.threads)
    if "9" in wanted:
        _print(9, _bytes(base, folder))
    if not {"1", "2"} & wanted:
        return
    references = _test_references(asked.meanings)
    if "1" in wanted:
        ours = _fit(base, folder, asked.training_rows, {})
        bleu = {name: _bleu_of(base, ours, name, references) for name in ("zero-shot", "few-shot", "lora")}
        tried = {entry["name"]: round(entry["loss"], 4) for entry in ours.report["strategies_tried"]}
        facts = {key: ours.report[key] for key in ("tokens_per_second", "steps", "seconds", "hyperparameters")}
        _print(1, {"bleu": bleu, "held_out_loss": tried, **facts, "goal": "lora ≥ 55, ≥ few-shot + 20"})
    if "2" in wanted:
        ours = _fit(base, folder, asked.training_rows, _AS_PEER)
        _print(2, _peer(base, ours, references))


def _fit(base: DecoderBackbone, folder: Path, rows: int, hyperparameters: dict[str, Any]) -> _Ours:
    request = _request(_chats(folder, rows), folder, hyperparameters)
    versions: dict[str, Path] = {}
    report: dict[str, Any] = {}
    for event in training.train(request, base, stop=lambda: False):
        if isinstance(event, VersionReady):
            versions[event.name] = event.artifact_dir
        elif isinstance(event, Finished):
            report = event.report
        elif isinstance(event, Progress) and "validation_loss" in event.metrics:
            print(event.message, flush=True)
    return _Ours(request, versions, report)


def _bleu_of(base: DecoderBackbone, ours: _Ours, name: str, references: dict[str, list[str]]) -> float:
    artifact = read_artifact(ours.versions[name]) if name in ours.versions else None
    parts, prompt = (artifact.parts, Prompt.of(artifact.manifest)) if artifact else ((), Prompt())
    return _bleu(base, parts, prompt, references)


def _bleu(base: DecoderBackbone, parts: tuple[Part, ...], prompt: Prompt, references: dict[str, list[str]]) -> float:
    """Return sacreBLEU of greedy answers against all references of each meaning."""
    from sacrebleu.metrics.bleu import BLEU

    network = of_parts(base, parts) if parts else frozen(base)
    texts: list[str] = []
    for batch in _batches(list(references)):
        conversations = [Conversation(json.dumps([{"role": "user", "content": meaning}])) for meaning in batch]
        asked = [token_rows.asked_tokens(base, conversation, prompt) for conversation in conversations]
        texts += [base.decode(tokens) for tokens in decoding.write(network, asked, most=96, stop=lambda: False)]
    most = max(map(len, references.values()))
    # A stream of references each; None where a meaning has fewer than others.
    padded = [[refs[at] if at < len(refs) else None for refs in references.values()] for at in range(most)]
    score = float(BLEU().corpus_score(texts, padded).score)
    print(prompt.strategy, round(score, 2), texts[:2], flush=True)
    return round(score, 2)


def _peer(base: DecoderBackbone, ours: _Ours, references: dict[str, list[str]]) -> dict[str, Any]:
    """Return our fit and the peer's on the same rows, in turn. Our seconds have the held-out measurements in them."""
    theirs, matrices = generation_peer.fit(base, ours.request, _AS_PEER)
    theirs["bleu"] = _bleu(base, (matrices,), Prompt("the peer"), references)
    # Both read the same rows: the same real tokens, over the seconds that each took.
    rate = theirs["tokens"] / ours.lora["seconds"]
    bleu = _bleu_of(base, ours, "lora", references)
    mine = {"loss": ours.lora["loss"], "seconds": ours.lora["seconds"], "tokens_per_second": rate, "bleu": bleu}
    return {
        "ours": {**mine, "precision": str(base.dtype)},
        "peer": {**theirs, "precision": "torch.float32"},
        "threads": base.threads,
        "loss_ratio": mine["loss"] / theirs["loss"],
        "speed_ratio": rate / theirs["tokens_per_second"],
        "goal": "loss within 1 %, speed ≥ 1.5, BLEU ≥ the peer's",
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
    used = resource.getrusage(resource.RUSAGE_SELF)
    machine = {
        "cpu_seconds_so_far": round(used.ru_utime + used.ru_stime),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load": load,
        **versions,
    }
    print(json.dumps({"row": row, "at": int(time.time()), **figures, "machine": machine}, default=str), flush=True)


if __name__ == "__main__":
    main()
