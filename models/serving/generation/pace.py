"""How many tokens of prompts a step takes beside those that are being written: as many as double its time."""

from __future__ import annotations

# A prompt moves on even where a step is short.
LEAST = 16
# Where nothing is written: an encoder's pass waits for a step, too. Longer slices are hardly cheaper per token: in bf16
# on one core 64 took 126 ms, 256 took 440.
MOST = 128
_WEIGHT = 0.2  # of the newest measurement


class StepPace:
    """Measures steps and sizes the next one's slice of prompts."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._step_s = 0.0  # of one that only writes
        self._token_s = 0.0  # of a prompt, beyond that

    @property
    def step_s(self) -> float:
        """Seconds of a step that only writes, 0 before there was one."""
        return self._step_s

    def prefill(self, writing: int) -> int:
        """Return how many tokens of prompts the next step takes beside `writing` others."""
        if not writing:
            return self._most
        if not self._step_s or not self._token_s:
            return LEAST
        return min(self._most, max(LEAST, int(self._step_s / self._token_s)))

    def observe(self, *, writing: int, prompts: int, seconds: float) -> None:
        """Note what a step took."""
        if not prompts:
            self._step_s = _blend(self._step_s, seconds)
        elif (beyond := seconds - (self._step_s if writing else 0.0)) > 0:
            self._token_s = _blend(self._token_s, beyond / prompts)


def _blend(before: float, now: float) -> float:
    return now if not before else before + _WEIGHT * (now - before)
