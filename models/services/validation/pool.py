"""The pool of processes that read uploads: a fair share for every customer, and an end for every file."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import structlog

from models.datasets.examples import DatasetProfile
from models.services.validation.cancellation import Cancellation
from models.services.validation.errors import (
    UnreadableFile,
    ValidationAbandoned,
    ValidationMemory,
    ValidationTimeout,
    ValidationUnavailable,
)
from models.services.validation.messages import Answer, Order
from models.services.validation.reader_process import ReaderEnded, ReaderProcess, ReaderTimeout
from models.services.validation.turns import Turn, Turns
from models.settings import Settings
from models.storage.errors import DiskFull

log = structlog.get_logger(__name__)

SMALL_BYTES = 256 * 2**10
_NICENESS = 10
_MOST_PROCESSES = 8
# A process that has to share its core takes longer by the clock than it computes.
_CLOCK_TIMES = 5.0
_ATTEMPTS = 2
_FAILED_STARTS = 3


class ValidationPool:
    """Reads files in other processes, a few at a time. Threads may share it; a thread waits for its answer.

    Processes are started when they are needed, by `start` beforehand, and kept.
    """

    def __init__(self, *, processes: int = 2, memory_bytes: int = 2 * 2**30, niceness: int = _NICENESS) -> None:
        self.processes = processes
        self._memory_bytes = memory_bytes
        self._niceness = niceness
        self._lock = threading.Lock()
        self._turns = Turns(processes)
        self._given: dict[Turn, threading.Event] = {}
        self._idle: list[ReaderProcess] = []
        self._busy: set[ReaderProcess] = set()
        self._failed_starts = 0
        self._closed = False
        # Processes that ended, by why: for a metric.
        self.ended = dict.fromkeys(("died", "timeout", "memory", "abandoned", "grown", "fault"), 0)

    def start(self) -> None:
        """Start all processes without waiting for them, so that the first upload needs not."""
        for _ in range(self.processes):
            try:
                self._give_back(self._new_process())
            except OSError as error:
                log.warning("reader_not_started", error=str(error))
                with self._lock:
                    self._failed_starts += 1

    def close(self) -> None:
        """End all processes; files that are being read are not answered."""
        with self._lock:
            self._closed = True
            idle, busy, self._idle = self._idle, list(self._busy), []
            for waiting in self._given.values():
                waiting.set()
        for process in busy:
            process.kill()
        for process in idle:
            process.close()

    def trouble(self) -> str | None:
        """Return why files cannot be read, None if they can."""
        return "its processes do not start" if self._failed_starts >= _FAILED_STARTS else None

    def counts(self) -> dict[str, int]:
        """Return how many files wait and are read, and how many processes there are."""
        with self._lock:
            return {
                "waiting": self._turns.waiting,
                "running": self._turns.running,
                "processes": len(self._idle) + len(self._busy),
            }

    def inspect(self, customer_id: str, order: Order, cancellation: Cancellation | None = None) -> DatasetProfile:
        """Return what a file holds when its customer's turn has come and it is read; blocks so long.

        Raises InvalidDataset for what is in it or for what reading it takes, ValidationAbandoned when cancelled.
        """
        cancellation = cancellation or Cancellation()
        with self._turn(customer_id, order.path.stat().st_size > SMALL_BYTES, cancellation):
            answer = self._read(order, cancellation)
        if answer.refusal is not None:
            raise answer.refusal
        if answer.out_of_memory:
            raise ValidationMemory(filename=order.filename, limit=self._memory_bytes)
        if answer.disk_full:
            raise DiskFull()
        if answer.profile is None:
            log.error("validation_fault", traceback=answer.fault)
            raise RuntimeError("the validation of a file has failed")
        return answer.profile

    def _read(self, order: Order, cancellation: Cancellation) -> Answer:
        ends: list[str] = []
        clock_s = order.seconds * _CLOCK_TIMES
        for _ in range(_ATTEMPTS):
            with self._process() as process, cancellation.watched(process.kill):
                try:
                    answer = process.ask(order, clock_s=clock_s)
                except (ReaderTimeout, ReaderEnded) as error:
                    reason = self._why(error, cancellation)
                    self._count(reason)
                    self._refuse_cancelled(cancellation)
                    if reason == "timeout":
                        raise ValidationTimeout(filename=order.filename, limit=order.seconds, clock=clock_s) from None
                    log.warning("reader_ended", pid=process.pid, how=str(error), bytes=order.path.stat().st_size)
                    ends.append(str(error))
                else:
                    if answer.last:
                        self._count("memory" if answer.out_of_memory else "fault" if answer.fault else "grown")
                    return answer
        raise UnreadableFile(filename=order.filename, how=ends[-1])

    @staticmethod
    def _why(error: ReaderTimeout | ReaderEnded, cancellation: Cancellation) -> str:
        if cancellation.cancelled:
            return "abandoned"
        spent = isinstance(error, ReaderTimeout) or error.status == -signal.SIGXCPU
        return "timeout" if spent else "died"

    def _count(self, reason: str) -> None:
        with self._lock:
            self.ended[reason] += 1

    def _refuse_cancelled(self, cancellation: Cancellation) -> None:
        if cancellation.cancelled:
            raise ValidationAbandoned()
        if self._closed:
            raise ValidationUnavailable()

    @contextlib.contextmanager
    def _turn(self, customer_id: str, large: bool, cancellation: Cancellation) -> Iterator[None]:
        """Wait for a customer's turn and charge it for the time that this context takes."""
        turn, given = Turn(customer_id, large), threading.Event()
        with self._lock:
            self._turns.add(turn)
            self._given[turn] = given
            self._let_go()
        with cancellation.watched(given.set):
            given.wait()
        with self._lock:
            waits = self._given.pop(turn, None) is not None and self._turns.withdraw(turn)
        began = time.monotonic()
        try:
            self._refuse_cancelled(cancellation)
            yield
        finally:
            with self._lock:
                if not waits:
                    self._turns.end(turn, time.monotonic() - began)
                self._let_go()

    def _let_go(self) -> None:
        """Give turns as long as there are places. Called with the lock."""
        while (turn := self._turns.next()) is not None:
            self._given.pop(turn).set()

    @contextlib.contextmanager
    def _process(self) -> Iterator[ReaderProcess]:
        """Lend a process that has started; it is kept if it answered."""
        process = self._take()
        try:
            yield process
        except BaseException:
            self._drop(process)
            raise
        if process.retired or process.has_ended():
            self._drop(process)
        else:
            self._give_back(process)

    def _take(self) -> ReaderProcess:
        for _ in range(_FAILED_STARTS):
            with self._lock:
                if self._closed:
                    raise ValidationUnavailable()
                process = self._idle.pop(0) if self._idle else None
                if process is not None:
                    self._busy.add(process)
            if process is None:
                try:
                    process = self._new_process()
                except OSError as error:
                    log.warning("reader_not_started", error=str(error))
                    self._failed_starts += 1
                    continue
            if process.has_ended() and process.ready:  # somebody killed it while it was idle
                self._drop(process)
                continue
            try:
                process.wait_until_ready()
            except (ReaderEnded, ReaderTimeout) as error:
                log.warning("reader_not_started", pid=process.pid, error=str(error))
                self._failed_starts += 1
                self._drop(process)
                continue
            self._failed_starts = 0
            return process
        raise ValidationUnavailable()

    def _new_process(self) -> ReaderProcess:
        process = ReaderProcess(memory_bytes=self._memory_bytes, niceness=self._niceness)
        with self._lock:
            self._busy.add(process)
            closed = self._closed
        if closed:
            process.kill()
        return process

    def _give_back(self, process: ReaderProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            if not self._closed:
                self._idle.append(process)
                return
        process.close()

    def _drop(self, process: ReaderProcess) -> None:
        """End a process; another is started in its place, if it ever worked."""
        with self._lock:
            self._busy.discard(process)
            missing = not self._closed and len(self._idle) + len(self._busy) < self.processes
        process.close()
        if missing and process.ready:
            with contextlib.suppress(OSError):  # the next upload tries again, and says so
                self._give_back(self._new_process())


def open_pool(settings: Settings) -> ValidationPool:
    """Return the pool that the settings describe; no process is started yet."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return ValidationPool(
        processes=settings.validation_processes or min(_MOST_PROCESSES, max(2, cores // 2)),
        memory_bytes=settings.validation_memory_bytes,
    )
