"""Log-mel patches: the front end of convolutional sound networks such as YAMNet, from the numbers in `frontend.json`.

Frames without centring or padding, a periodic Hann window, magnitudes (not powers), triangles that are linear in mel
and not normalised by area, natural logarithm of magnitude plus offset, no normalisation after it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# What the formulas below compute; a file that asks for anything else is refused.
_ASSUMED = {"window": "hann_periodic", "magnitude_power": 1, "mel_scale": "htk", "mel_norm": None, "log": "natural"}


@dataclass(frozen=True, slots=True)
class LogMel:
    """Lengths and steps in samples at `rate`, or in frames."""

    rate: int
    frame_length: int
    frame_step: int
    fft_length: int
    mel_bands: int
    low_hz: float
    high_hz: float
    log_offset: float
    patch_frames: int
    patch_hop_frames: int
    patch_samples: int

    def count(self, samples: int) -> int:
        """Return how many patches so many samples make; one at least, the last one padded with silence."""
        hop = self.patch_hop_frames * self.frame_step
        return 1 + max(0, -(-(samples - self.patch_samples) // hop))

    def patches(self, samples_N: Floats) -> Floats:
        """Return (patches, 1, time, mel) float32 from samples within ±1."""
        patches = self.count(len(samples_N))
        needed = self.patch_samples + (patches - 1) * self.patch_hop_frames * self.frame_step
        padded_N = np.pad(samples_N.astype(np.float64), (0, max(0, needed - len(samples_N))))
        frames_FN = np.lib.stride_tricks.sliding_window_view(padded_N, self.frame_length)[:: self.frame_step]
        magnitudes_FB = np.abs(np.fft.rfft(frames_FN * self.window(), self.fft_length))
        log_mel_FM = np.log(magnitudes_FB @ self.mel_matrix() + self.log_offset).astype(np.float32)
        starts = range(0, patches * self.patch_hop_frames, self.patch_hop_frames)
        return np.stack([log_mel_FM[start : start + self.patch_frames] for start in starts])[:, None]

    def window(self) -> NDArray[np.float64]:
        """Return a periodic Hann window, (frame length,)."""
        window_N: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame_length) / self.frame_length)
        return window_N

    def mel_matrix(self) -> NDArray[np.float64]:
        """Return the weights, (FFT bins, mel bands)."""
        bins_B = _mel(np.arange(self.fft_length // 2 + 1) * self.rate / self.fft_length)[:, None]
        edges = np.linspace(_mel(np.float64(self.low_hz)), _mel(np.float64(self.high_hz)), self.mel_bands + 2)
        low, peak, high = edges[:-2], edges[1:-1], edges[2:]
        rising, falling = (bins_B - low) / (peak - low), (high - bins_B) / (high - peak)
        weights_BM: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
        weights_BM[0] = 0
        return weights_BM


def read(path: Path) -> LogMel:
    """Return the front end that a `frontend.json` describes; raises ValueError for one that is not known."""
    fields: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for name, value in _ASSUMED.items():
        if fields.get(name, value) != value:
            raise ValueError(f"{name} is {fields[name]!r}, only {value!r} is known")
    if fields.get("center"):
        raise ValueError("centred frames are not known")
    return LogMel(
        rate=int(fields["sample_rate"]),
        frame_length=int(fields["frame_length"]),
        frame_step=int(fields["frame_step"]),
        fft_length=int(fields["fft_length"]),
        mel_bands=int(fields["mel_bands"]),
        low_hz=float(fields["mel_min_hz"]),
        high_hz=float(fields["mel_max_hz"]),
        log_offset=float(fields["log_offset"]),
        patch_frames=int(fields["patch_frames"]),
        patch_hop_frames=int(fields["patch_hop_frames"]),
        patch_samples=int(fields["patch_samples"]),
    )


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(hertz / 700.0)
