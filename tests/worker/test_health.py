"""The worker's metrics on its own port, and the health check that reads them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from models.settings import Settings
from worker import health, monitoring

_ROOT = Path(__file__).resolve().parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check(port: int, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(_ROOT), "GRAFT_WORKER_METRICS_PORT": str(port), "GRAFT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)


def test_the_health_check_passes_and_fails(tmp_path: Path) -> None:
    port = _free_port()
    nobody = _check(port, tmp_path)
    assert (nobody.returncode, nobody.stderr.startswith("no answer")) == (1, True)
    monitoring.serve_metrics(Settings(worker_metrics_port=port, data_dir=tmp_path))
    well = _check(port, tmp_path)
    assert (well.returncode, well.stderr) == (0, "")
    monitoring.LAST_SWEEP.set(time.time() - 3_600)
    dead = _check(port, tmp_path)
    assert (dead.returncode, "the sweeper" in dead.stderr) == (1, True)
    assert _check(0, tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("swept_s", "connected", "ticked_s", "expected"),
    [
        (1, 1, 1, None),
        (1, 0, 3_600, None),  # the broker is away, and that is not the worker's fault
        (1, 1, 3_600, "consumer"),
        (3_600, 1, 1, "sweeper"),
    ],
)
def test_what_counts_as_ill(swept_s: float, connected: float, ticked_s: float, expected: str | None) -> None:
    now = 1e9
    text = (
        f"graft_worker_last_sweep_timestamp_seconds {now - swept_s}\n"
        f"graft_worker_consumer_connected {connected}\n"
        f"graft_worker_consumer_last_tick_timestamp_seconds {now - ticked_s}\n"
    )
    complaint = health.complaint(text, now)
    assert (complaint is None) if expected is None else (complaint is not None and expected in complaint)


def test_a_worker_that_has_metrics_of_none_of_these_is_ill() -> None:
    assert health.complaint("", time.time()) is not None


def test_every_series_is_there_before_its_first_event() -> None:
    text = generate_latest().decode()
    for series in (
        'graft_worker_attempts_total{outcome="failed"}',
        'graft_worker_swept_total{what="dead_leases"}',
        'graft_worker_sweep_failures_total{what="orphans"}',
    ):
        assert series in text


def test_a_port_that_is_taken_does_not_stop_a_worker(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104  # where the metrics would be
        taken.listen(1)
        monitoring.serve_metrics(Settings(worker_metrics_port=taken.getsockname()[1], data_dir=tmp_path))
