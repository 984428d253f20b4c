"""The faults, in an order that a seed decides, and how long each of them held up the job that it hit."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from tests.benchmarks.faults_world import Running, World

FREEZE_S = 45.0
FULL_S = 15.0
_AT_WORK_S = 5.0
_READY_S = 180.0
KINDS = {
    "kill worker": 7,
    "kill trainer": 7,
    "kill api": 4,
    "kill valkey": 3,
    "freeze worker": 1,
    "freeze trainer": 1,
    "fill disk": 1,
    "restart postgresql": 2,
}


@dataclass
class Fault:
    """One of them."""

    kind: str
    at: float
    job: str | None = None  # that it hit
    attempt: int = 0
    recovered_s: float | None = None  # until another attempt made progress
    unharmed: bool = False  # the job ended without another attempt
    ready_s: float | None = None  # until `/readyz` answered again, of an API that was killed
    until: float = 0.0  # of those that last


class Injector:
    """Does one fault after another in a thread of its own."""

    def __init__(self, world: World, seed: int, gap_s: float, without: Collection[str] = ()) -> None:
        self.faults: list[Fault] = []
        self._kinds = {kind: times for kind, times in KINDS.items() if kind not in without}
        self._world = world
        self._rng = random.Random(seed)
        self._gap_s = gap_s
        self._stopped = threading.Event()
        self._all_ended = threading.Event()
        self._lasting: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._go_on, name="faults", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="recovery", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._watcher.start()

    def stop(self) -> None:
        """Begin no more, and wait for the end of those that last."""
        self._stopped.set()
        self._thread.join()
        for lasting in self._lasting:
            lasting.join()

    def close(self) -> None:
        """Watch no longer: every job has ended."""
        self._all_ended.set()
        self._watcher.join()

    def as_data(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.faults]

    def _go_on(self) -> None:
        kinds: list[str] = []
        while not self._stopped.wait(self._rng.uniform(0.5, 1.5) * self._gap_s):
            if not kinds:  # each as often as it should be, in an order that nobody foresees
                kinds = [kind for kind, times in self._kinds.items() for _ in range(times) if self._is_possible(kind)]
                self._rng.shuffle(kinds)
            self._do(kinds.pop())

    def _is_possible(self, kind: str) -> bool:
        if kind == "restart postgresql":
            return self._world.server is not None
        return kind != "fill disk" or self._world.disk is not None

    def _do(self, kind: str) -> None:
        world = self._world
        if kind == "kill valkey":
            self._kill(kind, next(iter(world.children("valkey-server")), None))
        elif kind == "kill api":
            if world.is_ready() and (api := world.api()) is not None:
                self._last(self._until_ready, self._kill(kind, api))
        elif kind == "restart postgresql":
            fault = self._note(kind)
            world.restart_database()
            fault.until = time.time()
        elif kind == "fill disk":
            self._last(self._fill, self._note(kind))
        elif kind.endswith("worker"):
            worker, job = self._at_work()
            if kind == "kill worker":
                self._kill(kind, worker, job)
            elif worker is not None and not self._frozen():
                self._last(self._freeze, self._note(kind, job), worker)
        else:
            worker, job = self._at_work()
            trainer = world.trainer(worker) if worker else None
            if kind == "kill trainer":
                self._kill(kind, trainer, job)
            elif trainer is not None and not self._frozen():
                self._last(self._freeze, self._note(kind, job), trainer)

    def _at_work(self) -> tuple[psutil.Process | None, Running | None]:
        """Return a worker that has a job, else any that runs."""
        deadline = time.time() + _AT_WORK_S
        workers: dict[int, psutil.Process] = {}
        while time.time() < deadline:
            workers = {worker.pid: worker for worker in self._world.workers() if not _is_stopped(worker)}
            busy = [job for job in self._world.running() if job.worker in workers]
            if busy:
                job = self._rng.choice(busy)
                return workers[job.worker], job
            time.sleep(0.01)
        return next(iter(workers.values()), None), None

    def _frozen(self) -> bool:
        """Whether one is frozen already: with both workers still, nothing could go on."""
        now = time.time()
        return any(fault.until > now for fault in self.faults if fault.kind.startswith("freeze"))

    def _kill(self, kind: str, process: psutil.Process | None, job: Running | None = None) -> Fault | None:
        if process is None:
            return None
        fault = self._note(kind, job)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        return fault

    def _note(self, kind: str, job: Running | None = None) -> Fault:
        fault = Fault(kind, time.time(), job.job if job else None, job.attempt if job else 0)
        self.faults.append(fault)
        return fault

    def _last(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._lasting.append(thread)
        thread.start()

    def _until_ready(self, fault: Fault | None) -> None:
        assert fault is not None
        while time.time() < fault.at + _READY_S:
            if self._world.is_ready():
                fault.until = time.time()
                fault.ready_s = fault.until - fault.at
                return
            time.sleep(0.05)

    def _freeze(self, fault: Fault, process: psutil.Process) -> None:
        fault.until = time.time() + FREEZE_S
        try:
            process.suspend()
            time.sleep(FREEZE_S)
            process.resume()
        except psutil.NoSuchProcess:  # another fault was its end
            fault.until = time.time()

    def _fill(self, fault: Fault) -> None:
        disk = self._world.disk
        assert disk is not None
        fault.until = fault.at + FULL_S
        while time.time() < fault.until:
            disk.fill()
            time.sleep(0.1)
        disk.remove()

    def _watch(self) -> None:
        """Note when a job that was hit is worked on again."""
        while not self._all_ended.wait(0.03):
            waiting = [f for f in self.faults if f.job and f.recovered_s is None and not f.unharmed]
            for fault in waiting:
                row = self._world.rows("SELECT status, attempt, step FROM jobs WHERE id = :id", id=fault.job)
                if not row:
                    continue
                status, attempt, step = row[0]
                if attempt > fault.attempt and (step or status in ("succeeded", "failed")):
                    fault.recovered_s = time.time() - fault.at
                elif status in ("succeeded", "failed"):
                    fault.unharmed = True


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return True
