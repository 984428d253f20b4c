"""A trial of a base on this machine: it is loaded in both precisions, encodes generated samples, and is timed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

from models.backbones import loading, writing
from models.backbones import precision as formats
from models.backbones.backbone import Backbone
from models.backbones.registry import BackboneEntry, Kind, Modality
from models.datasets.examples import Media
from models.settings import Settings

_ROUNDS = 3  # the fastest counts: others waited for the machine
_SAMPLES = {"text": 64, "image": 16, "audio": 8}
_SECONDS, _RATE, _SIDE = 3, 16_000, 256
WHAT: dict[Modality, str] = {
    "text": "a text of some twenty words",
    "image": f"a picture of {_SIDE} x {_SIDE} pixels",
    "audio": f"a sound of {_SECONDS} seconds",
}
_TEXTS = (
    "How much is the fee for a transfer to another country, and how many days will it be until the money is there?",
    "Meine Karte ist seit drei Wochen unterwegs und noch immer nicht da; können Sie bitte nachsehen, wo sie jetzt ist?",
    "J'ai oublié mon mot de passe et le lien que vous m'avez envoyé hier soir ne fonctionne plus, que dois-je faire ?",
    "我的银行卡在国外的自动取款机里被吞了，请问我应该怎么办，什么时候可以拿到新的卡？",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """The result: what the base is once it is loaded, whether bf16 is as good as fp32, and what an input costs."""

    width: int
    blocks: int
    max_tokens: int
    precision: str  # that it runs in here
    parity: float | None  # least cosine of the samples' vectors, bf16 with fp32; None: bf16 is not used
    seconds_to_load: float
    ms_per_input: float | None  # None: a base that writes, whose cost depends on what it writes

    def parity_line(self) -> str:
        """Return what became of bf16, in words."""
        needed = formats.PARITY_COSINE
        if self.parity is None:
            return f"bf16 is dropped for fp32: its answers are not those of fp32 (needed: a cosine of {needed:g})"
        return f"bf16 gives the vectors of fp32 (least cosine {self.parity:.5f}, needed {needed:g})"


def run(settings: Settings, entry: BackboneEntry) -> Trial:
    """Load the base and compute with it. Raises BaseModelUnreachable, UnsupportedBaseModel,
    UnsupportedDecoder, UnsupportedDetector.
    """
    return _RUNS[entry.kind](settings, entry)


def samples(modality: Modality) -> list[Any]:
    """Return generated inputs: texts in four languages, pictures and sounds of noise and slopes."""
    count = _SAMPLES[modality]
    if modality == "text":
        return [_TEXTS[at % len(_TEXTS)] for at in range(count)]
    make = _picture if modality == "image" else _sound
    return [make(seed) for seed in range(count)]


def _run_encoder(settings: Settings, entry: BackboneEntry) -> Trial:
    place = formats.resolve_device(settings.device)

    def load(precision: str) -> Backbone:
        return loading.load(entry, device=settings.device, precision=precision, threads=settings.threads)

    began = time.monotonic()
    used = load(settings.precision)
    loading_s = time.monotonic() - began
    inputs = samples(entry.modality)
    names = next(iter(used.feature_sets().values()))
    ms = _fastest_ms(lambda some: used.encode(some, names), inputs)
    exact_NF = load("fp32").encode(inputs[:4], [f"mean.{used.blocks}"])
    if not np.isfinite(exact_NF).all():
        raise ValueError("its vectors are not numbers")
    reduced = load("bf16")
    parity = None
    if reduced.dtype is torch.bfloat16:
        parity = formats.least_cosine(exact_NF, reduced.encode(inputs[:4], [f"mean.{used.blocks}"]))
    del reduced
    return Trial(
        width=used.width,
        blocks=used.blocks,
        max_tokens=entry.max_tokens,
        precision=f"{str(used.dtype).removeprefix('torch.')} on {place}",
        parity=parity,
        seconds_to_load=loading_s,
        ms_per_input=ms,
    )


def _run_decoder(settings: Settings, entry: BackboneEntry) -> Trial:
    began = time.monotonic()
    base = writing.load_decoder(entry, device=settings.device, precision=settings.precision, threads=settings.threads)
    return Trial(
        width=base.config.width,
        blocks=base.blocks,
        max_tokens=base.max_tokens,
        precision=f"{str(base.dtype).removeprefix('torch.')} on {base.device}",
        parity=None,
        seconds_to_load=time.monotonic() - began,
        ms_per_input=None,
    )


def _run_detector(settings: Settings, entry: BackboneEntry) -> Trial:
    began = time.monotonic()
    base: Any = loading.load(entry, device=settings.device, precision=settings.precision, threads=settings.threads)
    loading_s = time.monotonic() - began

    @torch.inference_mode()
    def find(values: Sequence[torch.Tensor]) -> None:
        for each in values:
            if not base.network(pixel_values=each).pred_boxes.isfinite().all():
                raise ValueError("its boxes are not numbers")

    return Trial(
        width=base.width,
        blocks=base.blocks,
        max_tokens=0,
        precision=f"{str(base.dtype).removeprefix('torch.')} on {base.device}",
        parity=None,
        seconds_to_load=loading_s,
        ms_per_input=_fastest_ms(
            find, [base.reader.read(media).values.to(base.device) for media in samples(entry.modality)]
        ),
    )


_RUNS: dict[Kind, Callable[[Settings, BackboneEntry], Trial]] = {
    "encoder": _run_encoder,
    "decoder": _run_decoder,
    "detector": _run_detector,
}


def _fastest_ms(compute: Callable[[Sequence[Any]], object], inputs: Sequence[Any]) -> float:
    compute(inputs[:1])  # the first pass allocates
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        compute(inputs)
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds) / len(inputs)


def _picture(seed: int) -> Media:
    generator = np.random.default_rng(seed)
    y_HW, x_HW = np.mgrid[0:_SIDE, 0:_SIDE]
    slope_HWC = np.stack([x_HW, y_HW, np.full_like(x_HW, 40 * (seed % 6))], axis=2)
    noisy_HWC = (slope_HWC + generator.normal(0, 20, slope_HWC.shape)).clip(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(noisy_HWC.astype(np.uint8)).save(buffer, "PNG")
    return Media(f"{seed}.png", buffer.getvalue())


def _sound(seed: int) -> Media:
    generator = np.random.default_rng(seed)
    seconds_N = np.arange(_SECONDS * _RATE) / _RATE
    wave_N = 0.3 * np.sin(2 * np.pi * (200 + 50 * seed) * seconds_N) + generator.normal(0, 0.05, len(seconds_N))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave_N.astype(np.float32), _RATE, format="WAV")
    return Media(f"{seed}.wav", buffer.getvalue())
