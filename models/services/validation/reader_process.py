"""A handle on one process that reads files: its pipes, its answers, its end."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from models.services.validation import messages
from models.services.validation.messages import Answer, Order, Ready
from models.services.validation.process import MEMORY_VARIABLE, NICENESS_VARIABLE

_START_S = 120.0  # on a busy machine, stepping back; half a second on an idle one
_CHUNK = 2**16
# What a reader needs to find its code and its files. Keys and passwords of the service are not among it.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_IO_THREADS", "OMP_THREAD_LIMIT")


class ReaderEnded(Exception):
    """The process ended instead of answering. `status` as in `subprocess`: negative is a signal."""

    def __init__(self, status: int, *, ready: bool) -> None:
        super().__init__(f"signal {-status}" if status < 0 else f"status {status}")
        self.status = status
        self.ready = ready  # whether it had ever been


class ReaderTimeout(Exception):
    """The process took too long by the clock, and was killed."""


class ReaderProcess:
    """One process, which reads one file at a time. One thread asks at a time; any may kill."""

    def __init__(self, *, memory_bytes: int, niceness: int) -> None:
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        environment |= {
            **dict.fromkeys(_ONE_THREAD, "1"),
            # Arrow's own allocator reserves address space far beyond what it uses.
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "2",
            # What this process would import, from wherever it was started.
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "PYTHONSAFEPATH": "1",
            MEMORY_VARIABLE: str(memory_bytes),
            NICENESS_VARIABLE: str(niceness),
        }
        self.ready = False
        self.retired = False  # it ends after the answer that it has given
        self._rest = b""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # our own interpreter and module
            [sys.executable, "-m", "models.services.validation.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, order: Order, *, clock_s: float) -> Answer:
        """Return the answer; raises ReaderEnded, and ReaderTimeout after `clock_s`."""
        self.wait_until_ready()
        assert self._process.stdin is not None  # noqa: S101
        with suppress(OSError):  # its end shows when the answer is read
            self._process.stdin.write(messages.encode_order(order))
        answer = self._receive(clock_s)
        assert isinstance(answer, Answer)  # noqa: S101  (it is ready once)
        self.retired = answer.last
        return answer

    def wait_until_ready(self) -> None:
        """Wait until it has started; raises ReaderEnded or ReaderTimeout."""
        if not self.ready:
            self._receive(_START_S)
            self.ready = True

    def has_ended(self) -> bool:
        """Whether it ended while nobody asked."""
        with self._lock:
            return self._process.poll() is not None

    def kill(self) -> None:
        """End it at once; whoever waits for an answer gets ReaderEnded."""
        with self._lock:
            self._process.kill()

    def close(self) -> None:
        """End it and free its pipes."""
        self.kill()
        with self._lock:
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _receive(self, seconds: float) -> Ready | Answer:
        deadline = time.monotonic() + seconds
        assert self._process.stdout is not None  # noqa: S101
        fd = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise ReaderTimeout
                chunk = os.read(fd, _CHUNK)
                if not chunk:
                    with self._lock:
                        status = self._process.wait()
                    raise ReaderEnded(status, ready=self.ready)
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return messages.decode(line)
