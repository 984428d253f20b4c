from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.datasets.errors import InvalidDataset
from models.datasets.examples import DatasetProfile, Example
from models.datasets.reading import read
from models.datasets.validation import Limits, inspect

Content = str | bytes


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Content], Path]:
    """Puts content into a file whose name says nothing about it."""

    def write(content: Content) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def profile(write: Callable[[Content], Path]) -> Callable[..., DatasetProfile]:
    """What `inspect` says about content."""

    def profile(content: Content, *, filename: str = "tickets.csv", **options: Any) -> DatasetProfile:
        limits = options.pop("limits", Limits())
        return inspect(write(content), filename=filename, limits=limits, **options)

    return profile


@pytest.fixture
def examples(tmp_path: Path, profile: Callable[..., DatasetProfile]) -> Callable[..., list[Example]]:
    """The examples that the trainer would read after `inspect` has accepted the content."""

    def examples(content: Content, **options: Any) -> list[Example]:
        found = profile(content, **options)
        rows = list(read(tmp_path / "upload", format=found.format, task=found.task, columns=found.columns))
        assert len(rows) == found.rows
        return rows

    return examples


@pytest.fixture
def refusal(profile: Callable[..., DatasetProfile]) -> Callable[..., InvalidDataset]:
    """The error for content; checks what every refusal owes to its reader."""

    def refusal(content: Content, **options: Any) -> InvalidDataset:
        with pytest.raises(InvalidDataset) as caught:
            profile(content, **options)
        error = caught.value
        body = error.as_dict()
        assert body["details"], "every refusal has details"
        assert len(body["details"]) <= 100
        assert error.total >= len(body["details"])
        assert len(body["message"]) < 1_500
        for detail in body["details"]:
            assert set(detail) - {"member"} == {"row", "line", "column", "reason", "mend"}
            assert detail["reason"]
            assert detail["mend"], "every problem says how to mend it"
        assert body["details"][0]["mend"].split(".")[0] in body["message"]
        assert "\0" not in body["message"]
        return error

    return refusal


# It forks a child for each file: what is imported is imported once, and a child begins to count with it.
_INSPECT = """
import os, sys
from pathlib import Path
from models.datasets.errors import InvalidDataset
from models.datasets.validation import Limits, inspect

def peak():  # of this process alone; getrusage's figure is inherited from the parent
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

def measure(path):
    before = peak()
    try:
        inspect(path, filename="upload", limits=Limits())
        code = "accepted"
    except InvalidDataset as error:
        code = error.code
    print(code, peak() - before, flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        measure(Path(line.rstrip()))
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print("died", 0, flush=True)
"""


@pytest.fixture(scope="session")
def inspecting() -> Iterator[subprocess.Popen[str]]:
    """The process that `measured` asks."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-c", _INSPECT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture
def measured(inspecting: subprocess.Popen[str]) -> Callable[[Path], tuple[str, int]]:
    """How `inspect` ends for a file in a process of its own, and how many bytes of memory that took."""

    def measured(path: Path) -> tuple[str, int]:
        assert inspecting.stdin is not None
        assert inspecting.stdout is not None
        inspecting.stdin.write(f"{path}\n")
        inspecting.stdin.flush()
        code, size = inspecting.stdout.readline().split()
        return code, int(size)

    return measured


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data sets beside the repository, where there are any."""
    folder = Path(os.environ.get("GRAFT_SHARED_DIR", Path(__file__).parents[4] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("no shared data here")
    return folder
