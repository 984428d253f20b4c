"""Sounds, by libsndfile: judged from the header, decoded in blocks, mixed to one channel."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.datasets.limits import Limits
from models.datasets.media import encodings
from models.datasets.problems import BadValue

_BLOCK_SAMPLES = 2**18
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 384_000
_MOST_CHANNELS = 16
# Everything that is computed sample by sample; a WAV file may also hold MP3 and the speech codecs of the nineties.
_CODECS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"}
_STREAMED = 0xFFFFFFFF  # a writer to a pipe never learns how long the sound became


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel. `samples_N` is float32, mostly within ±1; `rate` in samples per second."""

    samples_N: NDArray[np.float32]
    rate: int


def verify(data: bytes, name: str, limits: Limits) -> int:
    """Decode a sound on trial; its samples in all channels. Raises BadValue."""
    samples = 0
    for block_NC, _ in _blocks(data, name, limits):
        samples += block_NC.size
    return samples


def decode(data: bytes, name: str, limits: Limits) -> Sound:
    """Return the whole sound, channels averaged. Raises BadValue."""
    parts, rate = [], 0
    for block_NC, found in _blocks(data, name, limits):
        rate = found
        parts.append(block_NC.mean(axis=1))
    return Sound(np.concatenate(parts), rate)


def _blocks(data: bytes, name: str, limits: Limits) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield blocks (N, channels) and their rate, at least one sample in all."""
    if len(data) > limits.max_media_bytes:
        reason = f"has {len(data)} bytes; the limit is {limits.max_media_bytes}"
        raise BadValue(reason, "Upload a shorter or a compressed version (FLAC, Ogg).")
    encoding = encodings.require(data, "audio", name)
    if encoding is encodings.WAV:
        _check_chunks(data)
    elif encoding is encodings.OGG:
        _check_last_page(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared = _check_header(file, limits)
            read = 0
            frames = max(1, _BLOCK_SAMPLES // file.channels)
            while len(block_NC := file.read(frames, dtype="float32", always_2d=True)):
                read += len(block_NC)
                if read > limits.max_seconds * file.samplerate:
                    raise _too_long(f"more than {limits.max_seconds:g}", limits)
                if not np.isfinite(block_NC).all():
                    raise BadValue("has samples that are not finite numbers", "Write samples between -1 and 1.")
                yield block_NC, file.samplerate
    except BadValue:
        raise
    except Exception as error:
        # The library reports damaged bytes in several ways, its wrapper in more.
        reason = f"is cut off or damaged ({encoding.name}: {encodings.described(error)})"
        raise BadValue(reason, "Upload the whole sound, or remove it.") from None
    if not read:
        raise BadValue("has no samples", "Upload a sound of some length, or remove it.")
    if read < declared:
        reason = f"is cut off: its header promises {declared} samples, {read} are there"
        raise BadValue(reason, "Upload the whole sound, or remove it.")


def _check_header(file: Any, limits: Limits) -> int:
    """Check what the header declares; return the number of frames that it states."""
    if not _LOWEST_RATE <= file.samplerate <= _HIGHEST_RATE:
        reason = f"has a rate of {file.samplerate} samples per second; {_LOWEST_RATE} to {_HIGHEST_RATE} are read"
        raise BadValue(reason, "Resample it, for example to 16000.")
    if file.channels > _MOST_CHANNELS:
        raise BadValue(f"has {file.channels} channels; at most {_MOST_CHANNELS} are read", "Mix it down to mono.")
    if file.subtype not in _CODECS:
        raise BadValue(f"has the codec {file.subtype}, which is not accepted", encodings.MENDS["audio"])
    declared = int(file.frames)
    if declared > limits.max_seconds * file.samplerate:
        raise _too_long(f"{declared / file.samplerate:.1f}", limits)
    return declared


def _check_chunks(data: bytes) -> None:
    """Compare a WAV file's own account of its length with what arrived; the library overlooks the difference."""
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind == b"data":
            left = len(data) - place - 8
            if left < size != _STREAMED:
                reason = f"is cut off: its header promises {size} bytes of sound, {left} are there"
                raise BadValue(reason, "Upload the whole sound, or remove it.")
            return
        place += 8 + size + size % 2
    raise BadValue("is cut off: its samples are missing", "Upload the whole sound, or remove it.")


def _check_last_page(data: bytes) -> None:
    """Check that an Ogg file's last page is whole; the library leaves out what it finds of it. Raises BadValue."""
    start = data.rfind(b"OggS")
    segments = data[start + 26] if start + 26 < len(data) else 0
    lengths = data[start + 27 : start + 27 + segments]
    if len(lengths) < segments or start + 27 + segments + sum(lengths) > len(data) or start + 26 >= len(data):
        raise BadValue("is cut off in the middle of a page", "Upload the whole sound, or remove it.")


def _too_long(seconds: str, limits: Limits) -> BadValue:
    return BadValue(
        f"lasts {seconds} seconds; the limit is {limits.max_seconds:g}",
        "Cut it into pieces, one file each, or keep the part that decides.",
    )
