"""Picture base models: any Hugging Face vision encoder whose processor works with Pillow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel

from models.backbones import media, registry, stacks, torchvision_weights
from models.backbones.checkpoint import Checkpoint, from_pretrained, revision_of
from models.backbones.errors import BaseModelUnreachable
from models.backbones.media import MediaBackbone
from models.backbones.registry import BackboneEntry, PackedSource
from models.backbones.stacks import MediaEncoder
from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures

_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
# Measured on one core with MobileNetV2: few pictures at a time keep the maps in cache.
_CPU_BATCH = 4
_GPU_BATCH = 64
# A JPEG decoded at more than twice the size that it is resized to looks the same afterwards.
_OVERSAMPLING = 2


class PictureReader:
    """Decodes upright RGB; resizing, cropping and scaling are the checkpoint's own processor's."""

    cost = 256

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        size = getattr(processor, "size", None) or {}
        sides = [int(size[key]) for key in ("shortest_edge", "height", "width") if key in size]
        self._shortest = _OVERSAMPLING * max(sides) if sides else None

    def count(self, media: Media) -> int:  # noqa: ARG002  (a Reader's signature)
        """Return 1."""
        return 1

    def read(self, media: Media) -> Tensor:
        """Return (1, 3, H, W) float32."""
        # It was checked when it was uploaded, by the limits of that day.
        return self._process(pictures.decode(media.data, media.name, UNLIMITED, shortest=self._shortest))

    def probes(self) -> Tensor:
        """Return two pictures: noise, and a slope with a disc on it."""
        generator = np.random.default_rng(0)
        noise_HWC = generator.integers(0, 255, (256, 256, 3), dtype=np.uint8)
        y_HW, x_HW = np.mgrid[0:256, 0:256]
        slope_HWC = np.stack([x_HW, y_HW, np.where((x_HW - 90) ** 2 + (y_HW - 120) ** 2 < 3_600, 230, 30)], axis=2)
        generated = (noise_HWC, slope_HWC.astype(np.uint8))
        return torch.cat([self._process(Image.fromarray(pixels_HWC)) for pixels_HWC in generated])

    def _process(self, picture: Image.Image) -> Tensor:
        pixels: Tensor = self._processor(images=picture, return_tensors="pt")["pixel_values"]
        return pixels


def load(entry: BackboneEntry, *, device: torch.device, precision: str, threads: int) -> MediaBackbone:
    """Load a picture base. Raises BaseModelUnreachable and UnsupportedBaseModel."""
    source = entry.source
    unpacked = torchvision_weights.unpack(entry, source) if isinstance(source, PackedSource) else None
    folder = unpacked or registry.folder_of(entry)
    reader = PictureReader(_load_processor(entry, folder))

    def load_model() -> Any:
        return from_pretrained(AutoModel, entry, folder, dtype=torch.float32, use_safetensors=True).eval()

    def read() -> MediaEncoder:
        return stacks.build(load_model(), name=entry.name)

    model = load_model()
    media.check_walk(model, stacks.build(model, name=entry.name), reader.probes(), name=entry.name)
    return media.assemble(
        Checkpoint(entry, revision_of(entry, folder, _FILES), read),
        reader,
        device=device,
        precision=precision,
        threads=threads,
        batch_entries=_CPU_BATCH if device.type == "cpu" else _GPU_BATCH,
    )


def _load_processor(entry: BackboneEntry, folder: Path | None) -> Any:
    try:
        return from_pretrained(AutoImageProcessor, entry, folder, backend="pil")
    except ImportError as error:
        raise BaseModelUnreachable(
            name=entry.name,
            source=entry.source,
            reason=str(error).strip().splitlines()[0],
            mend="Use a checkpoint whose image processor works with Pillow.",
        ) from error
