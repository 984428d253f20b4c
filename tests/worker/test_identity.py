"""Which workers are known to be dead, and which nobody here can know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker import identity

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says since when a process runs")

_NAME_ITSELF = "from worker import identity; print(identity.new_name(), flush=True); input()"


def test_a_worker_is_dead_when_its_process_is_gone_and_not_before() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _NAME_ITSELF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not identity.is_dead(name)
        process.kill()
        process.stdout.read()  # its end, before anybody has waited for it
        _until_dead(name)
    assert identity.is_dead(name)


def test_a_number_that_another_process_has_now_is_no_sign_of_life() -> None:
    host, pid, where, token = identity.new_name().split(":")
    machine, _, started_at = where.partition("-")
    assert not identity.is_dead(f"{host}:{pid}:{where}:{token}")
    assert identity.is_dead(f"{host}:{pid}:{machine}-{int(started_at) - 1}:{token}")


@pytest.mark.parametrize(
    "name", ["dead", "worker-1", "host:1:abc", "host:999999:0123456789ab-7:token", "host:1:-7:token", "a:b:c:d", ""]
)
def test_of_other_machines_containers_and_releases_nothing_is_known(name: str) -> None:
    assert not identity.is_dead(name)


def test_names_are_new_and_fit_into_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host:" + "x" * 200)
    names = {identity.new_name() for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 128 and name.count(":") == 3 for name in names)


def _until_dead(name: str) -> None:
    import time

    deadline = time.monotonic() + 10
    while not identity.is_dead(name):
        assert time.monotonic() < deadline
        time.sleep(0.01)
