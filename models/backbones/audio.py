"""Sound base models: networks on log-mel patches (YAMNet) by their `frontend.json`, and Hugging Face audio encoders."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from models.backbones import architectures, log_mel, media, registry, stacks
from models.backbones.backbone import Floats
from models.backbones.checkpoint import Checkpoint, from_pretrained, revision_of
from models.backbones.errors import BaseModelUnreachable
from models.backbones.log_mel import LogMel
from models.backbones.media import MediaBackbone, Reader
from models.backbones.registry import BackboneEntry
from models.backbones.stacks import MediaBatch, MediaEncoder
from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import sounds

FRONTEND = "frontend.json"
_FILES = ("config.json", FRONTEND, "preprocessor_config.json", "model.safetensors")
_CPU_BATCH = 16
_GPU_BATCH = 256
# Networks on samples get pieces of one length: attention grows with the square of it, pieces of one length share a
# batch, and no sound's features depend on how long its neighbours are.
_PIECE_S = 3.0


class PatchReader:
    """Reads sounds as log-mel patches."""

    cost = 64

    def __init__(self, front: LogMel) -> None:
        self._front = front

    def count(self, media: Media) -> int:
        """Return how many patches."""
        return self._front.count(_resampled_length(media, self._front.rate))

    def read(self, media: Media) -> MediaBatch:
        """Return (patches, 1, time, mel) float32."""
        return self._patches(_samples(media, self._front.rate))

    def probes(self) -> MediaBatch:
        """Return a patch each of a rising tone and of noise."""
        return stacks.join([self._patches(wave_N) for wave_N in _waves(self._front.rate)])

    def _patches(self, samples_N: Floats) -> MediaBatch:
        return stacks.one_row(torch.from_numpy(self._front.patches(samples_N)))


class ExtractorReader:
    """Reads sounds by a Hugging Face feature extractor, in pieces of one length.

    `loops`: a sound that does not fill its piece is repeated rather than followed by silence, which would count in the
    mean; an extractor of spectrograms pads by itself, as its network was trained.
    """

    cost = 256

    def __init__(self, extractor: Any, piece_s: float, *, loops: bool) -> None:
        self._extractor = extractor
        self._rate = int(extractor.sampling_rate)
        self._piece = int(piece_s * self._rate)
        self._loops = loops

    def count(self, media: Media) -> int:
        """Return how many pieces."""
        return max(1, math.ceil(_resampled_length(media, self._rate) / self._piece))

    def read(self, media: Media) -> MediaBatch:
        """Return (pieces, …) float32."""
        return self._extract(_samples(media, self._rate))

    def probes(self) -> MediaBatch:
        """Return a second each of a rising tone and of noise."""
        return stacks.join([self._extract(wave_N) for wave_N in _waves(self._rate)])

    def _extract(self, samples_N: Floats) -> MediaBatch:
        pieces = self._cut(samples_N)
        if self._loops:
            pieces = [np.resize(piece_N, self._piece) for piece_N in pieces]
        found = self._extractor(pieces, sampling_rate=self._rate, return_tensors="pt")
        values: Tensor = next(iter(found.values()))
        return stacks.one_row(values.float())

    def _cut(self, samples_N: Floats) -> list[Floats]:
        return [samples_N[start : start + self._piece] for start in range(0, max(len(samples_N), 1), self._piece)]


class WindowReader(ExtractorReader):
    """Reads sounds by Whisper's feature extractor: windows of one length, with silence behind a shorter sound.

    How many frames of a window hold sound follows from its samples: the network makes one of two of the spectrogram's.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__(extractor, extractor.chunk_length, loops=False)
        self._samples_per_frame = 2 * int(extractor.hop_length)
        self.cost = math.ceil(self._piece / self._samples_per_frame)

    def _extract(self, samples_N: Floats) -> MediaBatch:
        filled = [max(1, math.ceil(len(piece_N) / self._samples_per_frame)) for piece_N in self._cut(samples_N)]
        return replace(super()._extract(samples_N), filled=tuple(filled))


def load(entry: BackboneEntry, *, device: torch.device, precision: str, threads: int) -> MediaBackbone:
    """Load a sound base. Raises BaseModelUnreachable and UnsupportedBaseModel."""
    folder = registry.folder_of(entry)

    def load_model() -> Any:
        model = from_pretrained(AutoModel, entry, folder, dtype=torch.float32, use_safetensors=True).eval()
        # Of one that hears and writes, what hears.
        return model.get_encoder() if model.config.is_encoder_decoder else model

    def read() -> MediaEncoder:
        return architectures.build(load_model(), name=entry.name)

    model = load_model()
    reader = _reader(entry, folder)
    media.check_walk(model, architectures.build(model, name=entry.name), reader.probes(), name=entry.name)
    return media.assemble(
        Checkpoint(entry, revision_of(entry, folder, _FILES), read),
        reader,
        device=device,
        precision=precision,
        threads=threads,
        batch_entries=_CPU_BATCH if device.type == "cpu" else _GPU_BATCH,
    )


def _reader(entry: BackboneEntry, folder: Path | None) -> Reader:
    if folder is not None and (folder / FRONTEND).is_file():
        try:
            return PatchReader(log_mel.read(folder / FRONTEND))
        except (ValueError, KeyError, TypeError) as error:
            raise BaseModelUnreachable(
                name=entry.name, source=entry.source, reason=f"{FRONTEND}: {error}", mend="Correct the file."
            ) from error
    extractor = from_pretrained(AutoFeatureExtractor, entry, folder)
    frames = getattr(extractor, "max_length", None)
    if frames and hasattr(extractor, "num_mel_bins"):  # spectrograms of one length, a frame every ten milliseconds
        return ExtractorReader(extractor, frames / 100, loops=False)
    if hasattr(extractor, "chunk_length") and hasattr(extractor, "n_fft"):  # Whisper's
        return WindowReader(extractor)
    return ExtractorReader(extractor, _PIECE_S, loops=True)


def _samples(media: Media, rate: int) -> Floats:
    # It was checked when it was uploaded, by the limits of that day.
    sound = sounds.decode(media.data, media.name, UNLIMITED)
    if sound.rate == rate:
        return sound.samples_N
    common = math.gcd(sound.rate, rate)
    resampled_N: Floats = resample_poly(sound.samples_N, rate // common, sound.rate // common).astype(np.float32)
    return resampled_N


def _resampled_length(media: Media, rate: int) -> int:
    header = soundfile.info(io.BytesIO(media.data))
    return math.ceil(int(header.frames) * rate / int(header.samplerate))


def _waves(rate: int) -> tuple[Floats, Floats]:
    seconds_N = np.arange(int(0.96 * rate)) / rate
    rising_N = 0.4 * np.sin(2 * np.pi * (200 + 900 * seconds_N) * seconds_N)
    noise_N = np.random.default_rng(0).normal(0, 0.1, len(seconds_N))
    return rising_N.astype(np.float32), noise_N.astype(np.float32)
