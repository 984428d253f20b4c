"""The child processes of the launcher: own session each, output in a log file, stopped with everything below them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

_LOG_LIMIT = 16 * 2**20
# A process that lived for so long was not ended by what it does at its start: it comes back at once.
_SOUND_LIFE_S = 10.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_SPARE_AFTER_S = 15.0
# Lines of level error and above in structlog's and Python's formats, and the last line of a traceback.
_TROUBLE = re.compile(
    r"\[(error|critical) *\]|\b(ERROR|CRITICAL|FATAL)\b|\"level\": ?\"(error|critical)\"|^[\w.]*(Error|Exception)\b"
)


class Child:
    """One supervised process. It is started again when it dies, later and later if it keeps dying."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        told: bytes = b"",
        standby: bool = False,
    ) -> None:
        """Describe a process. `told` is what it reads from its standard input: no other process can look at that.

        `standby`: it does nothing before it is told, so a second one waits, imported, to take over.
        """
        self.name = name
        self.log = log
        self.restarts = 0
        self._command = list(command)
        self._env = dict(env)
        self._told = told
        self._standby = standby
        self._process: subprocess.Popen[bytes] | None = None
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_at = 0.0  # when one may be started
        self._started_at = 0.0
        self._start_again_at: float | None = None
        self._read_to = 0
        self._begins_at = 0  # in the log: what comes before is an earlier launcher's

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def pids(self) -> list[int]:
        """The numbers of the process and of the one that waits to take over, of those that run."""
        return [process.pid for process in (self._process, self._spare) if process and process.poll() is None]

    @property
    def status(self) -> int | None:
        """The exit status if it has ended, else None."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C reaches the launcher only, which then stops all in order.

        Raises OSError when the system has no room for another process.
        """
        spare, self._spare = self._spare, None
        self._process = spare if spare is not None and spare.poll() is None else self._spawn()
        if self._process.stdin is not None:
            # A line or two: the pipe takes them whether or not the child reads, or has died already.
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
                stdin.write(self._told)
        self._started_at = time.monotonic()
        self._spare_at = self._started_at + _SPARE_AFTER_S
        self._start_again_at = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._open_log() as log:
            if self._process is None:
                self._read_to = self._begins_at = log.tell()  # what an earlier launcher's wrote is no news
            return subprocess.Popen(  # noqa: S603 - the command is ours
                self._command,
                env=self._env,
                stdin=subprocess.PIPE if self._told else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def supervise(self) -> str | None:
        """Start it again if it died and its pause is over; return a line for the terminal when something happened."""
        if self._process is None:
            return None
        now = time.monotonic()
        if self.status is None:
            self._keep_spare(now)
            return None
        if self._start_again_at is None:
            if now - self._started_at > _SOUND_LIFE_S:
                self.restarts = 0
            said = self._wait_for_start(now)
            _stop_all(_group(self._process.pid))
            return f"{self.name} ended with status {self.status}; {said} ({self.log})"
        if now >= self._start_again_at:
            self.restarts += 1
            try:
                self.start()
            except OSError as error:
                return f"{self.name} cannot be started ({error.strerror}); {self._wait_for_start(now)}"
        return None

    def _keep_spare(self, now: float) -> None:
        """Start a second process once the first has had the processor for itself."""
        if not self._standby or now < self._spare_at or (self._spare is not None and self._spare.poll() is None):
            return
        self._spare_at = now + _SPARE_AFTER_S
        with contextlib.suppress(OSError):  # tried again then
            self._spare = self._spawn()

    def _wait_for_start(self, now: float) -> str:
        pause = min(_FIRST_PAUSE_S * 2 ** (self.restarts - 1), _LONGEST_PAUSE_S) if self.restarts else 0.0
        self._start_again_at = now + pause
        return f"starting it again in {pause:g} s" if pause else "starting it again"

    def _open_log(self) -> BinaryIO:
        """Open the log at its end. On a full disk there may be no room even for an empty file: the lines are lost."""
        try:
            if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".1.log"))
                self._read_to = self._begins_at = 0
            return self.log.open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, then SIGKILL to the rest of its tree after `grace_s`, its own process groups included."""
        if self._spare is not None:
            self._spare.kill()
            self._spare.wait()
            self._spare = None
        if self._process is None:
            return
        below = _descendants(self._process.pid)
        if self.status is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                below += _descendants(self._process.pid)
                self._process.kill()
                self._process.wait()
        _stop_all({*below, *_group(self._process.pid)})
        self._process = None

    def trouble(self) -> list[str]:
        """Return new lines of the log that look like errors."""
        return [line for line in self.new_lines() if _TROUBLE.search(line)]

    def new_lines(self) -> list[str]:
        """Return whole lines that were logged since the last call."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._read_to)
                data = log.read(1 << 20)
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def tail(self, lines: int = 25) -> str:
        """Return the end of the log, of what was written since the first start here."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._begins_at, self.log.stat().st_size - 65_536))
                return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _group(pgid: int) -> list[psutil.Process]:
    """Return the processes that are still in a dead child's group: init has adopted them."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pgid or os.getsid(process.pid) == pgid:
                found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _stop_all(processes: set[psutil.Process] | list[psutil.Process]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            try:
                process.send_signal(how)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(alive, timeout=2)
