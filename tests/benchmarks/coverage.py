"""How often a report's 95 % interval covers the score on rows that nobody has seen: random re-splits of public sets.

`python -m tests.benchmarks.coverage [--draws 5] [--sets banking77,trec]`. Heads only: the interval is made alike for
all candidates. A test score is drawn from few rows as well; where the interval of the difference of both is meant,
`with noise` counts a cell as covered if it holds 0. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.artifacts.folder import read_artifact
from models.backbones import loading, registry
from models.backbones.loading import Backbone
from models.backbones.registry import BackboneEntry
from models.learning import tasks
from models.learning.comparison import inference
from models.learning.contract.events import VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.data.corpus import read_training, read_validation
from models.learning.evaluation import calibration, scores
from models.learning.training import train
from models.settings import Settings
from tests.benchmarks import public_data, task_sets
from tests.benchmarks.task_sets import TaskSet

_MOST_TEST = 2_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One draw: what the report says, and what rows say that nobody has seen."""

    score: float
    low: float
    high: float
    test: float
    test_low: float
    test_high: float

    @property
    def covered(self) -> bool:
        """Whether the interval holds the test score."""
        return self.low <= self.test <= self.high

    @property
    def covered_with_noise(self) -> bool:
        """Whether score and test score differ by no more than both are uncertain."""
        own, theirs = (self.high - self.low) / 2, (self.test_high - self.test_low) / 2
        return abs(self.score - self.test) <= float(np.hypot(own, theirs))


def _minilm() -> BackboneEntry:
    return registry.MINILM


def _folder(modality: str, name: str) -> Callable[[], BackboneEntry]:
    def entry() -> BackboneEntry:
        source = {"folder": str(public_data.folder() / "backbones" / name)}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({name: {"modality": modality, "source": source, "licence": "see its card"}}, file)
            file.flush()
            return registry.entries(Settings(base_models_file=Path(file.name)))[name]

    return entry


# Set, rows to train on, base.
SETS: dict[str, tuple[Callable[[], TaskSet], int, Callable[[], BackboneEntry]]] = {
    "banking77": (task_sets.banking77, 1_500, _minilm),
    "trec": (task_sets.trec, 400, _minilm),
    "sms_spam": (task_sets.sms_spam, 400, _minilm),
    "xquad_de": (task_sets.xquad_de, 1_000, _minilm),
    "stsb": (lambda: task_sets.stsb("en"), 800, _minilm),
    "nlupp_banking": (task_sets.nlupp_banking, 800, _minilm),
    "restaurant8k": (task_sets.restaurant8k, 500, _minilm),
    "hymenoptera": (task_sets.hymenoptera, 150, _folder("image", "mobilenet_v2_1.0_224")),
}


def measure(data: TaskSet, rows: int, backbone: Backbone, seed: int) -> Cell:
    """Train on so many rows drawn from the whole set, and score the others."""
    # Spans that overlap are only in official test rows; those are refused at the upload.
    pool = list(data.train) if data.task == "token-classification" else [*data.train, *data.test]
    random.Random(seed).shuffle(pool)
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for name, part in (("train", pool[:rows]), ("test", pool[rows : rows + _MOST_TEST])):
            own = Path(folder) / name
            own.mkdir()
            path = replace(data, train=part).write(own)
            columns = {column: column for column in part[0]}
            sources.append(DatasetSource(path, {".csv": "csv", ".jsonl": "jsonl", ".zip": "zip"}[path.suffix], columns))
        request = TrainRequest(sources[0], data.task, Path(folder) / "out", strategy="head", seed=seed, threads=2)
        versions = [each for each in train(request, backbone, stop=lambda: False) if isinstance(each, VersionReady)]
        test = _score(request, sources[1], versions[-1], backbone)
    own = versions[-1].metrics
    return Cell(own["score"], own["score_low"], own["score_high"], test.value, test.low, test.high)


def _score(request: TrainRequest, source: DatasetSource, version: VersionReady, backbone: Backbone) -> scores.Score:
    """Return the score of a version on rows that are not in its training file."""
    corpus, bound, replaced = read_training(request.training, tasks.find(request.task), request.hyperparameters.rare())
    held = read_validation(source, bound, corpus, replaced)
    task, artifact = tasks.encoder_task(bound), read_artifact(version.artifact_dir)
    reader = task.view(backbone.with_windowing(artifact.manifest.windowing), held.inputs)
    tokens = reader.tokenize(held.inputs)
    logits_NK = inference.logits(artifact, reader, tokens, held.inputs)
    if task.link.name == "identity":  # an artifact answers in the customer's unit, targets are standardised
        offset, scale = task.scale
        logits_NK = (logits_NK - np.float32(offset)) / np.float32(scale)
    probabilities_NK = calibration.probabilities(logits_NK, task.link, artifact.manifest.temperature)
    thresholds = artifact.manifest.thresholds
    chosen = task.decide(probabilities_NK, None if thresholds is None else np.array(thresholds, dtype=np.float32))
    return scores.score(task.tally(task.align(held.targets, tokens), chosen))


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sets", default=",".join(SETS))
    chosen = parser.parse_args(arguments)
    backbones: dict[str, Backbone] = {}
    print("| set | rows | reported | test | reported - test | half width | covered | with noise |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    every: list[Cell] = []
    for name in chosen.sets.split(","):
        build, rows, base = SETS[name]
        entry, data = base(), build()
        backbone = backbones.setdefault(entry.name, loading.load(entry, threads=2))
        cells = [measure(data, rows, backbone, seed) for seed in range(chosen.draws)]
        every += cells
        score, test = (float(np.mean([getattr(cell, field) for cell in cells])) for field in ("score", "test"))
        half = float(np.mean([(cell.high - cell.low) / 2 for cell in cells]))
        covered = [sum(getattr(cell, field) for cell in cells) for field in ("covered", "covered_with_noise")]
        figures = f"{score:.4f} | {test:.4f} | {score - test:+.4f} | {half:.4f}"
        print(f"| {name} | {rows} | {figures} | {covered[0]}/{len(cells)} | {covered[1]}/{len(cells)} |", flush=True)
    covered = [sum(getattr(cell, field) for cell in every) for field in ("covered", "covered_with_noise")]
    print(f"| all | | | | | | {covered[0]}/{len(every)} | {covered[1]}/{len(every)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
