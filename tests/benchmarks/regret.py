"""One run of one strategy in one cell, in this process; and what the runs of all cells say of `auto` together."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.artifacts.folder import read_artifact
from models.backbones.loading import Backbone
from models.datasets.examples import Input, Media, TextPair
from models.datasets.validation import Limits, inspect
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.outcomes import Outcome
from models.learning.contract.request import DatasetSource, Strategy, TrainRequest
from models.learning.training import train
from tests.benchmarks import results, scoring
from tests.benchmarks.regret_cells import Cell
from tests.benchmarks.task_sets import Row, TaskSet
from tests.models.learning import inference

FOLDER = "regret"
Runs = dict[str, dict[str, Any]]  # strategy → what came of it


@dataclass(frozen=True)
class Verdict:
    """One cell: `auto` beside the best single strategy, which is known only afterwards."""

    cell: str
    situation: str
    best: str
    best_score: float
    chosen: str
    score: float
    seconds_share: float  # of what all single strategies cost together
    tokens_share: float
    passes_share: float  # of refining, of what lora, partial, full and scratch would pass with all their trials

    @property
    def gain(self) -> float:
        """In points; what is lost is negative."""
        return 100 * (self.score - self.best_score)


def run(
    data: TaskSet,
    strategy: Strategy,
    backbone: Backbone,
    *,
    budget_s: float,
    seed: int,
    priors: tuple[Outcome, ...] = (),
) -> dict[str, Any]:
    """Train, and judge what this strategy made (of `auto`: what it chose) by the test rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = data.write(folder)
        found = inspect(path, filename=path.name, task=data.task, limits=Limits())
        request = TrainRequest(
            training=DatasetSource(path, found.format, found.columns),
            task=data.task,
            output_dir=folder / "out",
            strategy=strategy,
            seed=seed,
            refine_budget_s=budget_s,
            priors=priors,
        )
        candidates: dict[str, VersionReady] = {}
        for event in train(request, backbone, stop=lambda: False):
            if isinstance(event, VersionReady):
                candidates[event.name] = event
            elif isinstance(event, Finished):
                finished = event
        spent = finished.report.get("refinement", {}).get("cost", {})
        # A single strategy stands for itself, even where its own trials found the head to be better.
        made = finished.best if strategy == "auto" else list(candidates)[-1]
        artifact = read_artifact(candidates[made].artifact_dir)
        answers = inference.predict(artifact, backbone, [_input(row, data.medium) for row in data.test])
    return {
        "score": scoring.score(data.task, data.test, answers).value,
        "made": made,
        "seconds": finished.seconds,
        "tokens": finished.trained_tokens,
        "rows": finished.trained_rows,
        "situation": finished.report["situation"]["name"],
        "passes": spent.get("passes", 0),
        "share_of_all": spent.get("of_trying_every_strategy", 0.0),
        "outcomes": [asdict(outcome) for outcome in finished.outcomes],
    }


def run_draws(cell: Cell, strategy: Strategy, backbone: Backbone, *, budget_s: float, seed: int) -> dict[str, Any]:
    """All draws of a cell: the mean score, what they cost together, and what each of them made."""
    runs = [run(cell.data(draw), strategy, backbone, budget_s=budget_s, seed=seed + draw) for draw in range(cell.draws)]
    if len(runs) == 1:
        return runs[0]
    made = Counter(str(each["made"]) for each in runs)
    return {
        "score": sum(each["score"] for each in runs) / len(runs),
        "made": ", ".join(name for name, _ in made.most_common()),
        **{unit: sum(each[unit] for each in runs) for unit in ("seconds", "tokens", "rows", "passes")},
        "share_of_all": sum(each["share_of_all"] for each in runs) / len(runs),
        "situation": runs[0]["situation"],
        "draws": runs,
    }


def saved(cell: Cell) -> Runs:
    """The runs of a cell that were made before."""
    path = _path(cell)
    runs: Runs = json.loads(path.read_text("utf-8"))["runs"] if path.is_file() else {}
    return runs


def save(cell: Cell, runs: Runs) -> None:
    """Keep the runs of a cell."""
    results.save(f"{FOLDER}/{cell.name}", {"cell": cell.name, "runs": runs})


def judge(cell: Cell, runs: Runs) -> Verdict:
    """`auto` against the best of the single strategies."""
    singles = {name: runs[name] for name in cell.singles}
    best = max(singles, key=lambda name: singles[name]["score"])
    auto = runs["auto"]
    return Verdict(
        cell=cell.name,
        situation=auto["situation"],
        best=best,
        best_score=singles[best]["score"],
        chosen=auto["made"],
        score=auto["score"],
        seconds_share=auto["seconds"] / sum(run["seconds"] for run in singles.values()),
        tokens_share=auto["tokens"] / max(1, sum(run["tokens"] for run in singles.values())),
        passes_share=auto.get("share_of_all", 0.0),
    )


def judged(cells: Sequence[Cell]) -> list[Verdict]:
    """Of all cells whose runs are complete."""
    complete = [(cell, runs) for cell in cells if {*cell.singles, "auto"} <= set(runs := saved(cell))]
    return [judge(cell, runs) for cell, runs in complete]


def total_shares(cells: Sequence[Cell]) -> tuple[float, float]:
    """What `auto` cost of what all single strategies cost, over all complete cells: seconds, tokens."""
    auto, singles = [0.0, 0.0], [0.0, 0.0]
    for cell in cells:
        runs = saved(cell)
        if not {*cell.singles, "auto"} <= set(runs):
            continue
        for place, unit in enumerate(("seconds", "tokens")):
            auto[place] += runs["auto"][unit]
            singles[place] += sum(runs[name][unit] for name in cell.singles)
    return auto[0] / max(singles[0], 1e-9), auto[1] / max(singles[1], 1e-9)


def plot(verdicts: Sequence[Verdict], path: Path) -> None:
    """Points won or lost, and the share of the cost, per cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.4 * len(verdicts) + 1.8), sharey=True)
    names = [f"{verdict.cell} ({verdict.situation})" for verdict in verdicts]
    left.barh(names, [verdict.gain for verdict in verdicts], color="tab:blue")
    left.axvline(0, color="black", linewidth=0.8)
    left.set_xlabel("auto − best single strategy (points)")
    left.invert_yaxis()
    right.barh(names, [100 * verdict.seconds_share for verdict in verdicts], color="tab:orange")
    right.axvline(30, color="black", linewidth=0.8, linestyle="--")
    right.set_xlabel("seconds of auto, % of all single strategies together")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _input(row: Row, medium: str | None) -> Input:
    if "text_pair" in row:
        return TextPair(row["text"], row["text_pair"])
    if medium is None:
        return str(row["text"])
    path = Path(row[medium])
    return Media(path.name, path.read_bytes())


def _path(cell: Cell) -> Path:
    return results.path_of(f"{FOLDER}/{cell.name}")
