"""Freeing the device within ten seconds, whether or not the trainer listens."""

from __future__ import annotations

import signal

from worker.protocol import Stop
from worker.trainer_process import TrainerProcess

# Together with the heartbeat by which a wish is heard these stay below the 10 s that are promised.
_GENTLE_STOP_S = 3.0
_TERMINATE_S = 3.0


class Stopping:
    """Ask, so that the trainer may stay warm; then SIGTERM; then the caller kills."""

    def __init__(self, trainer: TrainerProcess, run: str, now: float) -> None:
        self._trainer = trainer
        self._terminate_at = now + _GENTLE_STOP_S
        self._kill_at = self._terminate_at + _TERMINATE_S
        self._terminated = False
        trainer.send(Stop(run))

    def is_over(self, now: float) -> bool:
        """Take the next step if it is time; True when there is no patience left."""
        if now >= self._terminate_at and not self._terminated:
            self._terminated = True
            self._trainer.signal_group(signal.SIGTERM)
        return now >= self._kill_at
