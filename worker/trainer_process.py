"""A handle on one trainer process: its pipes, its process group, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import structlog

from worker import protocol
from worker.protocol import Command, Died, Stop, TrainerEvent

log = structlog.get_logger(__name__)


# Together with the heartbeat that brings a request to stop, these stay below the 10 s of the service's guarantee.
_GENTLE_STOP_S = 3.0
_TERMINATE_S = 3.0


class TrainerProcess:
    """One trainer in a session of its own. Start it from a thread that outlives it.

    The kernel kills a child that asked for it (`PR_SET_PDEATHSIG`) when the *thread* that started it ends.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], on_death: Callable[[TrainerProcess], None]
    ) -> None:
        self.started_at = time.monotonic()
        self.used = False
        self._on_death = on_death
        self._lock = threading.Lock()
        self._mailbox: SimpleQueue[Any] | None = None
        self._status: int | None = None
        events_read, events_write = os.pipe()
        self._events_read = events_read
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=2,  # stray prints of libraries belong to the log
                env={
                    **environment,
                    protocol.EVENTS_FD_VARIABLE: str(events_write),
                    protocol.PARENT_VARIABLE: str(os.getpid()),
                },
                pass_fds=(events_write,),
                start_new_session=True,
            )
        except BaseException:
            os.close(events_read)
            raise
        finally:
            os.close(events_write)
        self._reader = threading.Thread(target=self._read, name=f"trainer-{self.pid}-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id, and the id of its group and session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while the process has not ended, as far as is known."""
        return self._status is None

    def attach(self, mailbox: SimpleQueue[Any]) -> None:
        """Deliver events from now on as `(run, event)` to `mailbox`; the last one is `(None, Died(...))`."""
        with self._lock:
            self._mailbox = mailbox
            if self._status is not None:
                mailbox.put((None, Died(self._status)))

    def begin(self, mailbox: SimpleQueue[Any]) -> None:
        """Attach for a run: from now on the process has been of use, however short its life."""
        self.used = True
        self.attach(mailbox)

    def detach(self) -> None:
        """Deliver no more events."""
        with self._lock:
            self._mailbox = None

    def send(self, command: Command) -> None:
        """Write one command. A dead process is no error here: its death arrives as an event."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101
        try:
            stdin.write(protocol.encode_command(command))
        except (OSError, ValueError):  # the pipe has no reader any more, or our end is closed already
            log.warning("trainer_unreachable", pid=self.pid)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, if the process still lives."""
        with self._lock:
            # Not reaped yet, so the group's id cannot belong to another one.
            if self._status is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came."""
        self._reader.join(timeout_s)
        return not self.alive

    def _read(self) -> None:
        with os.fdopen(self._events_read, "rb") as lines:
            for line in lines:
                try:
                    run, event = protocol.decode_event(line)
                except (ValueError, KeyError, TypeError):
                    log.exception("trainer_event_unreadable", pid=self.pid, line=line[:200])
                    continue
                self._deliver(run, event)
        # The pipe closed: the process is ending, and all that it left in its group has to end too. The signal is sent
        # before the leader is reaped, because from then on its id may be another process's.
        self.signal_group(signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            status = self._process.wait()
            self._status = status
            mailbox = self._mailbox
        if self._process.stdin is not None:
            self._process.stdin.close()
        log.info("trainer_ended", pid=self.pid, status=status)
        if mailbox is not None:
            mailbox.put((None, Died(status)))
        self._on_death(self)

    def _deliver(self, run: str | None, event: TrainerEvent) -> None:
        if isinstance(event, protocol.Ready):
            log.info("trainer_ready", pid=self.pid, base_model=event.base_model, seconds=round(event.seconds, 3))
            return
        with self._lock:
            if self._mailbox is not None:
                self._mailbox.put((run, event))


class Termination:
    """Frees the device whether or not the trainer reacts: ask, so that it may stay warm; SIGTERM; the caller kills."""

    def __init__(self, trainer: TrainerProcess, run: str, now: float) -> None:
        self._trainer = trainer
        self._terminate_at = now + _GENTLE_STOP_S
        self._kill_at = self._terminate_at + _TERMINATE_S
        self._terminated = False
        trainer.send(Stop(run))

    def is_overdue(self, now: float) -> bool:
        """Take the next step if it is time; True when the process has to be killed."""
        if now >= self._terminate_at and not self._terminated:
            self._terminated = True
            self._trainer.signal_group(signal.SIGTERM)
        return now >= self._kill_at
