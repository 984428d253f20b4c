"""How often `promote=auto` puts a new version live: pairs of equally good versions, and pairs with a worse one.

`python -m tests.benchmarks.promotion [--pairs 40]`. Heads on banking77 (or the sample tickets): eight classes are drawn
for each pair, a live version is trained on some of their rows and a new one on others; the official test rows say how
good each really is. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts.folder import read_artifact
from models.backbones import loading, registry
from models.backbones.loading import Backbone
from models.datasets.windowing import Windowing
from models.learning.contract.comparison import LiveVersion
from models.learning.contract.events import Finished
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.training import train
from models.services.promotion import Decision, Live, NewVersion, decide
from tests.benchmarks.public_data import Rows, short_texts
from tests.models.learning import inference

_CLASSES = 8
_ROWS = 25  # per class, of a live version


@dataclass(frozen=True, slots=True)
class Kind:
    """How the new version's rows differ from those of the live one."""

    name: str
    worse: bool
    rows: float  # as a share of those of the live version, which are among them where there are more
    other: bool = False  # another draw from the same classes
    shuffled: float = 0.0  # share of labels that are drawn anew


KINDS = (
    Kind("another draw of as many rows", worse=False, rows=1.0, other=True),
    Kind("the same rows and half as many more", worse=False, rows=1.5),
    Kind("the same rows, 20 % of the labels shuffled", worse=True, rows=1.0, shuffled=0.2),
    Kind("half as many more, 20 % of all labels shuffled", worse=True, rows=1.5, shuffled=0.2),
    Kind("half as many more, 40 % of all labels shuffled", worse=True, rows=1.5, shuffled=0.4),
    Kind("a third of the rows", worse=True, rows=1 / 3),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pair: what was decided, and how much better the new version is on rows that nobody has seen."""

    kind: Kind
    decision: Decision
    gain: float


class Remembering:
    """A base that encodes every text once, however many files it is in."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._known: dict[tuple[bytes, str], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def with_windowing(self, windowing: Windowing | None) -> Remembering:
        """Return itself: none of the texts is long."""
        return self

    def encode_tokens(self, rows: Sequence[Any], names: Sequence[str]) -> Any:
        """Return features_NF; only what is not known is computed."""
        keys = [np.asarray(row).tobytes() for row in rows]
        new = [at for at, key in enumerate(keys) if any((key, name) not in self._known for name in names)]
        if new:
            features_NF = self._backbone.encode_tokens([rows[at] for at in new], names)
            ends = np.cumsum([self._backbone.feature_width(name) for name in names])[:-1]
            for at, parts in zip(new, zip(*np.split(features_NF, ends, axis=1), strict=True), strict=True):
                self._known.update({(keys[at], name): part for name, part in zip(names, parts, strict=True)})
        return np.stack([np.concatenate([self._known[key, name] for name in names]) for key in keys])

    def encode(self, inputs: Sequence[Any], names: Sequence[str]) -> Any:
        """Return features_NF of texts."""
        return self.encode_tokens(self._backbone.tokenize(inputs), names)

    def encode_steps(self, rows: Sequence[Any], names: Sequence[str], **_: Any) -> Generator[float, None, Any]:
        """Do as `encode_tokens`, in one step."""
        yield 0.0
        return self.encode_tokens(rows, names)


def run_pair(kind: Kind, backbone: Any, data: tuple[Rows, Rows], seed: int, folder: Path) -> Outcome:
    """Train both versions of a pair, decide, and measure both on the test rows of their classes."""
    rng = random.Random(seed)
    classes = set(rng.sample(sorted({label for _, label in data[0]}), _CLASSES))
    by_class = {label: [row for row in data[0] if row[1] == label] for label in sorted(classes)}
    pools = [rng.sample(rows, min(len(rows), 2 * _ROWS)) for rows in by_class.values()]
    old = [row for pool in pools for row in pool[:_ROWS]]
    count = round(kind.rows * _ROWS)
    new = [row for pool in pools for row in (pool[-count:] if kind.other else pool[:count])]
    spoiled = set(rng.sample(range(len(new)), round(kind.shuffled * len(new))))
    drawn = sorted(classes)
    new = [(text, rng.choice(drawn)) if at in spoiled else (text, label) for at, (text, label) in enumerate(new)]
    live = _train(old, backbone, seed, folder / "live")
    request = replace(_request(new, seed + 1, folder / "new"), live=LiveVersion(1, folder / "live" / "head"))
    finished = _finish(request, backbone)
    report = finished.report
    decision = decide(
        "auto",
        NewVersion(2, report["data"]["rows"], report["score"], report["baseline"]["majority"]),
        Live(1, live.report["data"]["rows"]),
        finished.comparison,
    )
    unseen = [row for row in data[1] if row[1] in classes]
    scores = [_accuracy(folder / name / "head", backbone, unseen) for name in ("live", "new")]
    return Outcome(kind, decision, scores[1] - scores[0])


def _request(rows: Rows, seed: int, folder: Path) -> TrainRequest:
    folder.mkdir(parents=True)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    source = DatasetSource(folder / "rows.csv", "csv", {"text": "text", "label": "label"})
    plain = Hyperparameters(lexical=False)
    return TrainRequest(
        source, "text-classification", folder, strategy="head", seed=seed, threads=1, hyperparameters=plain
    )


def _train(rows: Rows, backbone: Any, seed: int, folder: Path) -> Finished:
    return _finish(_request(rows, seed, folder), backbone)


def _finish(request: TrainRequest, backbone: Any) -> Finished:
    *_, finished = train(request, backbone, stop=lambda: False)
    if not isinstance(finished, Finished):
        raise TypeError(type(finished).__name__)
    return finished


def _accuracy(folder: Path, backbone: Any, rows: Rows) -> float:
    answers = inference.predict(read_artifact(folder), backbone, [text for text, _ in rows])
    return float(np.mean([answer["label"] == label for answer, (_, label) in zip(answers, rows, strict=True)]))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes by kind, in Markdown."""
    lines = [
        "| the new version's rows | pairs | test accuracy, new less live (mean) | went live | the worst of these |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for worse in (False, True):
        group = [outcome for outcome in outcomes if outcome.kind.worse is worse]
        for kind in dict.fromkeys(outcome.kind for outcome in group):
            lines.append(_line(kind.name, [outcome for outcome in group if outcome.kind == kind]))
        if group:
            lines.append(_line(f"**all {'worse' if worse else 'equally good'}**", group))
    return "\n".join(lines)


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    live = [outcome.gain for outcome in outcomes if outcome.decision.promoted]
    gain = float(np.mean([outcome.gain for outcome in outcomes]))
    worst = f"{min(live):+.3f}" if live else ""
    return f"| {name} | {len(outcomes)} | {gain:+.3f} | {len(live)} | {worst} |"


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40, help="of each group")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name, *data = short_texts()
    backbone = Remembering(loading.load(registry.MINILM, device="cpu", threads=1))
    outcomes: list[Outcome] = []
    for worse in (False, True):
        kinds = [kind for kind in KINDS if kind.worse is worse]
        for number in range(arguments.pairs):
            with tempfile.TemporaryDirectory() as folder:
                seed = arguments.seed + 1_000 * worse + number
                kind = kinds[number % len(kinds)]
                outcomes.append(run_pair(kind, backbone, (data[0], data[1]), seed, Path(folder)))
            found = outcomes[-1]
            sys.stderr.write(f"{found.kind.name}: {found.gain:+.3f} {found.decision.reason}\n")
    sys.stdout.write(f"{name}, {_CLASSES} classes, heads, {_ROWS} rows per class in the live version:\n\n")
    sys.stdout.write(table(outcomes) + "\n")


if __name__ == "__main__":
    main()
