"""`graft up` and the commands against it, as a person at a terminal has them: real processes, nothing replaced."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from api.schemas.report import ReportObject
from deploy.cli.demo import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_ROOT = Path(__file__).resolve().parents[2]
_GRAFT = [sys.executable, "-m", "deploy.cli.main"]


def _environment(config: Path, **extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}
    return {
        **kept,
        "XDG_CONFIG_HOME": str(config),
        "HF_HUB_OFFLINE": "1",
        "GRAFT_THREADS": "1",
        "GRAFT_TRAINER_NICENESS": "0",
        **extra,
    }


@dataclass(frozen=True)
class Up:
    """A `graft up` that runs."""

    process: subprocess.Popen[str]
    url: str
    admin_key: str
    data: Path

    def children(self) -> dict[str, psutil.Process]:
        found = {}
        for process in psutil.Process(self.process.pid).children():
            try:
                words = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            name = "api" if "api.server" in words else "worker" if "worker.app" in words else "valkey"
            found.setdefault(name, process)  # the oldest: a second API only waits to take over
        return found


def _start(data: Path, config: Path, *options: str, **extra: str) -> subprocess.Popen[str]:
    command = [*_GRAFT, "up", "--data", str(data), *options]
    return subprocess.Popen(
        command, env=_environment(config, **extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _until_ready(process: subprocess.Popen[str], data: Path) -> Up:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(r"export GRAFT_SERVER=(\S+) GRAFT_ADMIN_KEY=(\S+)", line)
        if found:
            # Nobody reads on: a full pipe would stop the launcher.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return Up(process, found[1], found[2], data)
    raise AssertionError("".join(lines))


def _says(process: subprocess.Popen[str], words: str) -> bool:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return words in line


def _until(done: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    root = tmp_path_factory.mktemp("up")
    running = _until_ready(_start(root / "data", root / "config", "--port", "0"), root / "data")
    tree = psutil.Process(running.process.pid).children(recursive=True)
    yield running
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert [process for process in tree if process.is_running()] == []


@pytest.fixture
def graft(up: Up, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one command against the deployment."""

    def run(*words: str, key: str | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        env = _environment(tmp_path, GRAFT_SERVER=up.url, GRAFT_ADMIN_KEY=up.admin_key, COLUMNS="200")
        if key:
            env["GRAFT_API_KEY"] = key
        return subprocess.run([*_GRAFT, *words], env=env, input=stdin, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def key(graft: Callable[..., subprocess.CompletedProcess[str]], request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    created = graft("customers", "create", name)
    assert created.returncode == 0, created.stderr
    issued = graft("keys", "create", name)
    assert issued.stdout.startswith("gr-")
    return issued.stdout.strip()


def test_train_watch_predict_promote(
    graft: Callable[..., subprocess.CompletedProcess[str]], key: str, tmp_path: Path
) -> None:
    rows = (SAMPLES / "tickets.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "tickets.csv").write_text("".join([*rows, rows[1]]), encoding="utf-8")
    trained = graft("train", str(tmp_path / "tickets.csv"), "--suffix", "tickets", "--seed", "7", key=key)
    assert trained.returncode == 0, trained.stderr + trained.stdout
    assert (trained.stderr + trained.stdout).count("Warning: 1 row repeats the text and label of an earlier row") == 1
    assert "succeeded" in trained.stdout
    assert "/v1/models/tickets/predict" in trained.stdout
    with (SAMPLES / "tickets.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))["text"]
    assert shlex.quote(json.dumps({"inputs": [first]})) in trained.stdout

    listed = graft("jobs", key=key)
    job_id = re.search(r"ftjob-\w+", listed.stdout)
    assert job_id is not None
    assert "succeeded" in listed.stdout
    shown = json.loads(graft("job", job_id[0], "--json", key=key).stdout)
    assert shown["seed"] == 7
    ReportObject.model_validate(shown["report"])
    assert shown["report"]["warnings"] == shown["warnings"]
    by_name = graft("model", "tickets", key=key).stdout
    assert all(f"{word} " in by_name for word in ("precision", "damaged_item", "refined"))
    assert graft("watch", job_id[0], key=key).returncode == 0

    asked = graft("predict", "tickets", "please send my money back for the broken cup", "--top-k", "2", key=key)
    assert asked.returncode == 0, asked.stderr
    piped = graft("predict", "tickets", "--json", key=key, stdin="where is my parcel\n\nplease end my subscription\n")
    answers = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["order_status", "cancel_subscription"]

    assert "tickets" in graft("models", key=key).stdout
    assert "live" in graft("versions", "tickets", key=key).stdout
    promoted = graft("promote", "tickets", "1", key=key)
    assert "version 1 answers, as before" in promoted.stdout, promoted.stderr
    assert graft("delete-model", "tickets", "--yes", key=key).returncode == 0
    assert "No models yet" in graft("models", key=key).stderr


def test_the_readmes_python_runs_as_it_stands(up: Up, key: str) -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import .*?)```", readme, re.DOTALL)  # the other one is an excerpt
    code = code.replace("http://127.0.0.1:8000", up.url).replace("gr-…", key)
    answer = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "damaged_item"


def test_the_readmes_curl_lines_run_as_they_stand(up: Up, key: str) -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```sh\n(curl .*?)```", readme, re.DOTALL)
    post, get, predict = lines.strip().split("\n\n")
    env = {**os.environ, "GRAFT_SERVER": up.url, "GRAFT_API_KEY": key, "NO_PROXY": "127.0.0.1"}

    def run(line: str) -> dict[str, Any]:
        answer = subprocess.run(["bash", "-c", f"{line} -sS"], cwd=_ROOT, env=env, capture_output=True, check=True)
        return dict(json.loads(answer.stdout))

    job = run(post)
    assert job["status"] == "queued"
    _until(lambda: run(get.replace("ftjob-…", job["id"]))["fine_tuned_model"] is not None, 120)
    assert run(predict)["predictions"][0]["label"] == "damaged_item"


def test_bad_data_is_shown_with_its_mend(
    graft: Callable[..., subprocess.CompletedProcess[str]], key: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nfine,a\n,b\nno label,\n")
    refused = graft("train", str(tmp_path / "bad.csv"), key=key)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "mend" in refused.stderr
    assert "req_" in refused.stderr


def test_named_columns_and_cancel(
    graft: Callable[..., subprocess.CompletedProcess[str]], key: str, tmp_path: Path
) -> None:
    text = (SAMPLES / "tickets.csv").read_text().replace("text,label", "body,category", 1)
    (tmp_path / "mine.csv").write_text(text)
    columns = ["--column", "text=body", "--column", "label=category"]
    long = ["--strategy", "full", "--hyperparameter", "n_epochs=50"]  # not to end before it is cancelled
    started = graft("train", str(tmp_path / "mine.csv"), *columns, *long, "--no-wait", key=key)
    assert started.returncode == 0, started.stderr
    cancelled = graft("cancel", started.stdout.strip(), key=key)
    assert cancelled.returncode == 0, cancelled.stderr
    watched = graft("watch", started.stdout.strip(), key=key)
    assert watched.returncode == 1
    assert "cancelled" in watched.stdout


def test_keys_and_customers(graft: Callable[..., subprocess.CompletedProcess[str]], key: str) -> None:
    assert graft("models", key=key).returncode == 0
    name = "test-keys-and-customers"
    key_id = re.search(r"key_\w+", graft("keys", "list", name).stdout)
    assert key_id is not None
    assert graft("keys", "revoke", name, key_id[0]).returncode == 0
    _until(lambda: graft("models", key=key).returncode == 1)
    deleted = graft("customers", "delete", name, "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert name not in graft("customers", "list").stdout


def test_a_wrong_key_a_wrong_server_and_a_missing_file_are_told(
    graft: Callable[..., subprocess.CompletedProcess[str]], key: str
) -> None:
    for words in (["jobs", "--key", "gr-wrong"], ["jobs", "--server", "http://127.0.0.1:9"], ["train", "nowhere.csv"]):
        answer = graft(*words, key=key)
        assert answer.returncode == 1
        assert "Error:" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_second_launcher_is_refused(up: Up, tmp_path: Path) -> None:
    second = _start(up.data, tmp_path, "--port", "0")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "is in use by another Graft" in output
    assert str(up.process.pid) in output
    assert _ready(up.url)


def test_a_taken_port_is_told(up: Up, tmp_path: Path) -> None:
    port = up.url.rsplit(":", 1)[1]
    second = _start(tmp_path / "other", tmp_path, "--port", port)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"Port {port}" in output
    assert not (tmp_path / "other" / "graft.db").exists()


def test_killed_processes_come_back(up: Up) -> None:
    for name in ("api", "worker", "valkey"):
        before = up.children()[name]
        before.kill()

        def is_back(name: str = name, before: psutil.Process = before) -> bool:
            now = up.children().get(name)
            return now is not None and now.pid != before.pid

        _until(is_back)
    _until(lambda: _ready(up.url))


def test_a_killed_launcher_leaves_nothing_that_matters(tmp_path: Path) -> None:
    running = _until_ready(_start(tmp_path / "data", tmp_path, "--port", "0"), tmp_path / "data")
    left = list(running.children().values())
    running.process.kill()
    running.process.wait()
    again = _until_ready(_start(tmp_path / "data", tmp_path, "--port", "0"), tmp_path / "data")
    try:
        assert [process for process in left if process.is_running()] == []
        assert again.admin_key == running.admin_key
    finally:
        again.process.terminate()
        assert again.process.wait(60) == 0


def test_parts_in_processes_of_their_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lonely = _start(data, tmp_path, "--role", "worker")
    output, _ = lonely.communicate(timeout=60)
    assert lonely.returncode == 1
    assert "--role api" in output
    given = "operator-0123456789abcdef0123456789abcdef"
    api = _until_ready(_start(data, tmp_path, "--role", "api", "--port", "0", GRAFT_ADMIN_KEY=given), data)
    worker = _start(data, tmp_path, "--role", "worker", GRAFT_ADMIN_KEY=given)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    predictor = _start(data, tmp_path, "--role", "predictor", "--port", str(port), GRAFT_ADMIN_KEY=given)
    try:
        for process, words in ((worker, "wait for jobs"), (predictor, "Ctrl-C stops it")):
            _until(lambda process=process, words=words: _says(process, words))
        # Before, the key that was given stood on the screen, and in the environment of every child.
        assert api.admin_key == "<the-key-you-gave>"
        # Then the API's alone had it; it reads the key from a pipe now, and still knows it.
        launchers = (api.process, worker, predictor)
        tree = [child for process in launchers for child in psutil.Process(process.pid).children(True)]
        assert [child.cmdline() for child in tree if given in str(child.environ()) + str(child.cmdline())] == []
        assert len(tree) >= 4
        operator = {"authorization": f"Bearer {given}"}
        assert httpx.get(f"{api.url}/v1/customers", headers=operator, trust_env=False).status_code == 200
        assert not (data / "admin.key").exists()
        _until(lambda: _ready(f"http://127.0.0.1:{port}"))
        mapped = Path(f"/proc/{api.children()['api'].pid}/maps")
        if mapped.exists():
            assert "libtorch" not in mapped.read_text(), "the API of the control plane loaded torch"
    finally:
        for process in (predictor, worker, api.process):
            process.terminate()
        for process in (predictor, worker, api.process):
            assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    env = _environment(tmp_path, TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1")
    with subprocess.Popen([*_GRAFT, "demo"], env=env, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "POST /v1/fine_tuning/jobs" in line:
                break
        tree = psutil.Process(demo.pid).children(recursive=True)
        assert len(tree) >= 3
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(60) != 0
    assert [process for process in tree if process.is_running()] == []
    assert list(tmp_path.glob("graft-demo-*")) == []
