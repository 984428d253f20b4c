"""What training and serving make of a few seeded jobs, to the last digit: for changes that must change nothing.

    git worktree add ../before <older commit>
    (cd ../before && PYTHONPATH=$PWD python -m tests.models.learning.behaviour --write /tmp/before.json)
    PYTHONPATH=$PWD python -m tests.models.learning.behaviour --compare /tmp/before.json

Where the older commit has no such module, copy this file into its worktree, with `generated.py` beside it and
`tests/models/backbones/text_checkpoints.py`, and mend the block of imports. The same machine, the same packages and
one thread give the same digits, whatever `PYTHONHASHSEED` is; another processor rounds differently, so the file is not
kept. What was renamed on purpose has a line in `RENAMED`.
"""

# ruff: noqa: T201  (a command: it prints)
from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from safetensors.torch import load_file

from models.artifacts.folder import read_artifact

# All that a change of layout has to mend here.
from models.backbones import loading, registry
from models.datasets.examples import Media, TextPair
from models.datasets.validation import Limits, inspect
from models.learning import training
from models.learning.contract.events import Finished, VersionReady
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.learning.heads import encoding
from models.services.catalog import ResolvedVersion
from models.serving.adapters.assembly import assemble
from models.serving.encoders import input_modes, passes
from tests.models.backbones import media_checkpoints, text_checkpoints
from tests.models.datasets.media_files import archive, sound, stripes
from tests.models.learning import inference
from tests.models.learning.generated import coded, nearness, places

FEATURE_BYTES = (encoding, "_FEATURE_BYTES")  # how much of frozen features a run keeps in memory

# Keys and kinds of events of the older document → what they are called now.
RENAMED = {"Candidate": "VersionReady", "relief": "error_reduction"}
# Of these nothing is compared: they are another time, or on another installation, without anything having changed.
UNSTEADY = {"artifact_dir", "seconds", "seconds_remaining", "seconds_per_row_epoch", "versions"}
_MOST_SHOWN = 10  # differences per job

_BASES = {"minilm": "fp32", "minilm in bf16": "bf16", "tiny": "fp32", "vit": "fp32", "resnet": "fp32", "yamnet": "fp32",
          "ast": "fp32"}  # fmt: skip
_ASKS = {
    "cardArrival": ("where is my {} card", "my {} card has not come yet", "when will the {} card be here"),
    "cash_withdrawal_charge": ("the {} machine took a fee", "why was I charged for {} cash", "a fee on {} cash"),
    "lost-card": ("somebody took my {} card", "I cannot find the {} card", "the {} card was stolen"),
    "top up": ("how do I top up the {} account", "put money on my {} account", "the {} top-up has not come yet"),
}
_OF_WHAT = ("new", "old", "second", "business", "joint", "travel", "blue", "student")


@dataclass(frozen=True)
class Job:
    """One training run: which rows of which task, on which base, how."""

    base: str
    data: str  # a kind of rows, see `_rows`
    count: int
    strategy: str = "auto"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    validated: int = 0  # rows of a validation file
    cached: bool = False  # features are kept on disk, and so are checkpoints
    feature_bytes: int = 0  # what fits into memory, where that is asked for
    after: tuple[str, ...] = ()  # jobs whose outcomes are known


JOBS: dict[str, Job] = {
    "text, head": Job("minilm", "asks", 60, "head", cached=True),
    "text, head, validated": Job(
        "minilm", "asks", 60, "head", {"features": "last", "regularization": 0.5, "lexical": True}, validated=24
    ),
    "text, zero-shot": Job("minilm", "asks", 40, "zero-shot"),
    "text, head, many rows": Job("tiny", "coded", 4_200, "head"),
    "text, lora in bf16": Job(
        "minilm in bf16", "asks", 16, "lora", {"n_epochs": 1, "lora_rank": 2}, validated=16, cached=True
    ),
    "text, auto, nothing to win": Job("tiny", "asks", 64),
    "text, auto, two in turn": Job("tiny", "coded", 160),
    "text, auto, race of four": Job("tiny", "coded", 320),
    "text, auto, experienced": Job("tiny", "coded", 176, after=("text, auto, two in turn",) * 2),
    "text, scratch": Job("tiny", "coded", 80, "scratch", {"n_epochs": 3}),
    "text, full, more than fits": Job("tiny", "asks", 120, "full", {"n_epochs": 2}, feature_bytes=50_000),
    "pairs, partial": Job("minilm", "pairs", 40, "partial", {"n_epochs": 2, "trainable_blocks": 1}, validated=16),
    "pairs, auto": Job("tiny", "pairs", 280),
    "values, full": Job("tiny", "values", 64, "full", {"learning_rate_multiplier": 2.0}),
    "spans, lora": Job("minilm", "spans", 40, "lora", {"n_epochs": 2, "lora_rank": 2}, validated=16),
    "spans, full": Job("tiny", "spans", 60, "full", {"n_epochs": 2}),
    "several labels, auto": Job("tiny", "several", 120),
    "several labels, partial": Job("minilm", "several", 32, "partial", {"n_epochs": 1, "trainable_blocks": 2}),
    "pictures, lora": Job("vit", "pictures", 24, "lora", {"n_epochs": 2}),
    "pictures, full": Job("resnet", "pictures", 24, "full", {"n_epochs": 1}),
    "sounds, head": Job("yamnet", "sounds", 16, "head"),
    "sounds, partial": Job("ast", "sounds", 16, "partial", {"n_epochs": 1, "trainable_blocks": 2}),
}


def run(names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train the named jobs below `folder` and answer with them; JSON-ready."""
    bases = {name: _load(name, folder / name) for name in dict.fromkeys(JOBS[name].base for name in names)}
    found: dict[str, Any] = {}
    outcomes: dict[str, tuple[Any, ...]] = {}
    for name in names:
        job, began = JOBS[name], time.monotonic()
        request = _request(job, folder / name, [outcome for each in job.after for outcome in outcomes[each]])
        with mock.patch.object(*FEATURE_BYTES, job.feature_bytes or getattr(*FEATURE_BYTES)):
            events = list(training.train(request, bases[job.base], stop=lambda: False))
        finished = events[-1]
        assert isinstance(finished, Finished)
        outcomes[name] = tuple(replace(each, seconds_per_row_epoch=0.0) for each in finished.outcomes)
        found[name] = {
            "events": [{"kind": type(event).__name__, **asdict(event)} for event in events[:-1]],
            "finished": asdict(finished),
            "candidates": {
                event.name: _contents(event.artifact_dir) for event in events if isinstance(event, VersionReady)
            },
            "predictions": {
                event.name: inference.predict(
                    read_artifact(event.artifact_dir), bases[job.base], _inputs(job.data), top_k=2
                )
                for event in events
                if isinstance(event, VersionReady)
            },
        }
        print(f"{name}: {', '.join(found[name]['candidates'])} in {time.monotonic() - began:.1f} s", file=sys.stderr)
    for base, backbone in bases.items():
        mine = [name for name in names if JOBS[name].base == base]
        found[f"served on {base}"] = _serve(mine, found, folder, backbone)
    return {name: _steady(value) for name, value in found.items()}


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What differs, one line each: the path, and both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if key in before and key in after:
                yield from differences(before[key], after[key], f"{path}/{key}")
            else:
                there, value = ("before", before[key]) if key in before else ("after", after[key])
                yield f"{path}/{key} is only {there}: {_excerpt(value)}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}/{index}")
    elif before != after or type(before) is not type(after):
        yield f"{path}: {_excerpt(before)} → {_excerpt(after)}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Print a line per job, and what differs in it; whether nothing does."""
    same = True
    for name in [*before, *(name for name in after if name not in before)]:
        found = list(differences(_renamed(before.get(name)), _renamed(after.get(name))))
        same &= not found
        print(f"{name}: {f'differs in {len(found)}' if found else 'equal'}")
        for line in found[:_MOST_SHOWN]:
            print(f"    {line}")
    return same


def _load(name: str, folder: Path) -> Any:
    plain = name.partition(" ")[0]
    if plain == "minilm":
        entry = registry.MINILM
    elif plain == "tiny":
        entry = text_checkpoints.write(folder)
    else:
        entry = media_checkpoints.write(folder, plain)
    return loading.load(entry, device="cpu", precision=_BASES[name], threads=1)


def _request(job: Job, folder: Path, priors: Sequence[Any]) -> TrainRequest:
    folder.mkdir()
    training_source, task = _source(folder, "training", job.data, job.count, seed=0)
    held = _source(folder, "validation", job.data, job.validated, seed=1)[0] if job.validated else None
    return TrainRequest(
        training=training_source,
        validation=held,
        task=task,
        output_dir=folder / "out",
        base_model=job.base.partition(" ")[0],
        strategy=job.strategy,  # type: ignore[arg-type]
        hyperparameters=Hyperparameters(**job.hyperparameters),
        seed=5,
        device="cpu",
        threads=1,
        refine_budget_s=1e9,  # no decision by the clock
        feature_cache_dir=folder / "features" if job.cached else None,
        checkpoint_dir=folder / "checkpoints" if job.cached else None,
        priors=tuple(priors),
    )


def _source(folder: Path, name: str, data: str, count: int, *, seed: int) -> tuple[DatasetSource, str]:
    rows = _rows(data, count, seed=seed)
    if isinstance(rows, dict):
        path = folder / f"{name}.zip"
        path.write_bytes(archive(rows))
    else:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = inspect(path, filename=path.name, limits=Limits())
    return DatasetSource(path, found.format, found.columns), found.task


def _rows(data: str, count: int, *, seed: int) -> Any:
    """Rows as they are in a file; of pictures and sounds the members of an archive."""
    kinds: dict[str, Callable[..., Any]] = {
        "asks": _asks, "several": _several, "coded": _coded, "pairs": nearness, "values": _values, "spans": places,
        "pictures": _pictures, "sounds": _sounds,
    }  # fmt: skip
    return kinds[data](count, seed=seed)


def _asks(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Questions to a bank. Some occur twice but for case, and every ninth has somebody else's label."""
    generator = np.random.default_rng(seed)
    labels, found = list(_ASKS), []
    for row in range(count):
        label = labels[generator.integers(len(labels))]
        text = str(generator.choice(_ASKS[label])).format(generator.choice(_OF_WHAT))
        said = labels[row % 4] if row % 9 == 8 else label
        found.append({"text": text.upper() if row % 5 == 4 else text, "label": said})
    return found


def _several(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Two questions one after the other, and both labels; of every seventh row neither."""
    twice = zip(_asks(count, seed=seed), _asks(count, seed=seed + 10), strict=True)
    return [
        {
            "text": f"{one['text']}; {two['text']}",
            "labels": [] if row % 7 == 6 else sorted({one["label"], two["label"]}),
        }
        for row, (one, two) in enumerate(twice)
    ]


def _coded(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Notes in a code. Every seventh is on another's desk: there is something to win, or so it seems."""
    notes = coded(count, seed=seed, classes=4)
    return [{"text": text, "label": notes[row - row % 7 // 6][1]} for row, (text, _) in enumerate(notes)]


def _values(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Texts and, in another unit, how long they are."""
    return [{"text": row["text"], "value": 1e3 + len(row["text"])} for row in nearness(count, seed=seed)]


def _pictures(count: int, *, seed: int) -> dict[str, bytes]:
    """Stripes; every seventh of a kind shows those of the other."""
    labels = ("wide", "narrow")
    return {
        f"{label}/{number}.png": stripes(labels[at - number % 7 // 6], number + 1_000 * seed)
        for number in range(count // 2)
        for at, label in enumerate(labels)
    }


def _sounds(count: int, *, seed: int) -> dict[str, bytes]:
    """Noise at two rates."""
    return {
        f"{label}/{number}.wav": sound(seconds=0.3, rate=rate, seed=number + 1_000 * seed)
        for number in range(count // 2)
        for label, rate in (("low", 4_000), ("high", 16_000))
    }


def _inputs(data: str) -> list[Any]:
    """Eight that no job has learned from."""
    rows = _rows(data, 8, seed=2)
    if isinstance(rows, dict):
        return [Media(name, content) for name, content in rows.items()]
    if data == "pairs":
        return [TextPair(row["text"], row["text_pair"]) for row in rows]
    return [row["text"] for row in rows]


def _contents(folder: Path) -> dict[str, Any]:
    """A version's files, read without any code of ours."""
    tensors = load_file(folder / "weights.safetensors")
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "manifest": json.loads((folder / "manifest.json").read_bytes()),
        "tensors": {name: _tensor(tensors[name]) for name in sorted(tensors)},
    }


def _tensor(tensor: torch.Tensor) -> str:
    content = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} {hashlib.sha256(content).hexdigest()}"


def _serve(names: Sequence[str], found: Mapping[str, Any], folder: Path, backbone: Any) -> dict[str, Any]:
    """Outputs of every version of some jobs on a base: all in one pass, each customer's rows between the others'."""
    asked = []
    for name in names:
        for candidate in found[name]["candidates"]:
            place = folder / name / "out" / candidate
            manifest = json.loads((place / "manifest.json").read_bytes())
            version = ResolvedVersion(
                customer_id=name, model_id=name, name=name, full_name=name, number=1, artifact_prefix="",
                manifest_sha256="", base_model=backbone.entry.name, task=manifest["task"],
            )  # fmt: skip
            adapter = assemble(read_artifact(place), version, backbone)
            asked += [(row, f"{name}/{candidate}", adapter, item) for row, item in enumerate(_inputs(JOBS[name].data))]
    asked.sort(key=lambda each: each[0])
    adapters = [adapter for _, _, adapter, _ in asked]
    modes = [adapter.input_mode for adapter in adapters]
    windowings = [adapter.windowing for adapter in adapters]
    rows = input_modes.tokenize(backbone, [item for *_, item in asked], modes, windowings)
    outputs: dict[str, Any] = {}
    for (_, whose, _, _), output in zip(asked, passes.answer(backbone, rows, adapters), strict=True):
        outputs.setdefault(whose, []).append(output.tolist())
    return outputs


def _steady(value: Any) -> Any:
    """The value as JSON would give it back, without what is different each time."""
    if isinstance(value, dict):
        return {str(key): _steady(item) for key, item in value.items() if key not in UNSTEADY}
    if isinstance(value, list | tuple):
        return [_steady(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {RENAMED.get(key, key): _renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return RENAMED.get(value, value) if isinstance(value, str) else value


def _excerpt(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "cpu": platform.processor(),
            "kernels": torch.backends.cpu.get_cpu_capability()}  # fmt: skip


def main() -> int:
    """Run the jobs; write what came of them, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write what came of the jobs")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare it with what was written before")
    parser.add_argument("--read", type=Path, metavar="FILE", help="take what was written to a file, run nothing")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB", help="only these")
    asked = parser.parse_args()
    if asked.read:
        document = json.loads(asked.read.read_text("utf-8"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            document = {"machine": _machine(), "jobs": run(asked.jobs, Path(folder))}
        document = json.loads(json.dumps(document))
    if asked.write:
        asked.write.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    if asked.compare is None:
        return 0
    before = json.loads(asked.compare.read_text("utf-8"))
    for line in differences(before["machine"], document["machine"]):
        print(f"another machine: {line}", file=sys.stderr)
    if len(asked.jobs) == len(JOBS):
        return 0 if compare(before["jobs"], document["jobs"]) else 1
    # Not what was served: a pass without the other jobs' rows may round differently.
    only = [{name: jobs["jobs"].get(name) for name in asked.jobs} for jobs in (before, document)]
    return 0 if compare(*only) else 1


if __name__ == "__main__":
    sys.exit(main())
