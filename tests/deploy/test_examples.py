"""The examples of the documents are applied and run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.backbones import registry
from models.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
_CONTRIBUTING = (_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_RUNBOOK = (_ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")

# What a reader would do next with the example's task: read a file, train, ask.
_RATING = """
import sys
from pathlib import Path
from models.backbones import loading, registry
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from models.learning import tasks
from models.artifacts.folder import read_artifact
from tests.models.learning import inference
from models.learning.contract.request import DatasetSource, TrainRequest
from models.learning.training import train

path = Path(sys.argv[1])
found = inspect(path, filename=path.name, task="text-rating", limits=Limits())
request = TrainRequest(
    DatasetSource(path, found.format, found.columns), found.task, path.parent / "out", strategy="head", threads=1
)
base = loading.load(registry.MINILM, device="cpu", threads=1)
*_, finished = train(request, base, stop=lambda: False)
artifact = read_artifact(path.parent / "out" / "head")
bad, good = inference.predict(artifact, base, ["awful, broken, a waste of money", "wonderful, I love it, perfect"])
assert bad["value"] < 2.5 < 3.5 < good["value"], (bad, good)
assert finished.report["metric"] == "pearson"
assert artifact.manifest.task == "text-rating"
assert tasks.encoder_task(tasks.find(artifact.manifest.task)).link.name == "identity"
"""
_REVIEWS = [
    (f"{feeling} {thing}", stars)
    for feeling, stars in (
        ("I love this wonderful", "5/5"), ("A perfect and beautiful", "5"), ("Quite a good", "4/5"),
        ("An average, ordinary", "3"), ("A rather poor", "2/5"), ("Terrible, I hate this", "1/5"),
        ("Broken, useless", 1),
    )
    for thing in ("lamp", "book", "coat", "radio", "kettle", "chair", "phone", "bicycle")
]  # fmt: skip


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the packages to change."""
    for room in ("models", "api", "worker"):
        shutil.copytree(_ROOT / room, tmp_path / "copy" / room, ignore=shutil.ignore_patterns("__pycache__"))
    reference = Path("tests", "models", "learning", "inference.py")
    (tmp_path / "copy" / reference).parent.mkdir(parents=True)
    shutil.copy(_ROOT / reference, tmp_path / "copy" / reference)
    return tmp_path / "copy"


def _apply(diff: str, folder: Path) -> None:
    subprocess.run(["git", "apply", "-"], cwd=folder, input=diff, text=True, check=True)


def _python(program: str, folder: Path, *arguments: str) -> None:
    # Only from the copy: the project itself may be installed.
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _diffs() -> list[str]:
    return re.findall(r"^```diff\n(.*?)^```$", _CONTRIBUTING, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_task_of_the_example_learns(scratch: Path, tmp_path: Path) -> None:
    _apply(_diffs()[0], scratch)
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "stars"), *_REVIEWS])
    _python(_RATING, scratch, str(tmp_path / "reviews.csv"))


def test_the_base_model_of_the_example_is_offered(scratch: Path) -> None:
    _apply(_diffs()[1], scratch)
    program = "from models.backbones import registry as r; from models.settings import Settings as S; "
    _python(f"{program}assert r.find(S(), 'bge-small').source.revision.startswith('5c38ec7')", scratch)


def test_the_base_models_file_of_the_runbook_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", _RUNBOOK, re.MULTILINE | re.DOTALL)
    entries = json.loads(example)
    for name, entry in entries.items():
        if "folder" in entry["source"]:  # the example's own are not on this machine
            entry["source"]["folder"] = str(tmp_path / name)
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_text('{"hidden_size": 32, "num_hidden_layers": 3}')
    (tmp_path / "bases.json").write_text(json.dumps(entries))
    found = registry.entries(Settings(base_models_file=tmp_path / "bases.json"))
    assert list(found) == ["minilm", "smollm2", "mobilenet-v2", "bge-small", "photos", "sounds", "finder"]
    assert (found["bge-small"].width, found["bge-small"].blocks) == (384, 12)
    assert found["photos"].width == 32
    assert [entry.kind for entry in found.values()][-2:] == ["encoder", "detector"]
