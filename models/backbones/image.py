"""Picture base models: any Hugging Face vision encoder whose processor works with Pillow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel
from transformers.models.auto.image_processing_auto import get_image_processor_config

from models.backbones import architectures, float_processor, media, registry, stacks, torchvision_weights
from models.backbones.checkpoint import Checkpoint, from_pretrained, revision_of
from models.backbones.errors import BaseModelUnreachable
from models.backbones.float_processor import FloatProcessor
from models.backbones.media import MediaBackbone
from models.backbones.registry import BackboneEntry, PackedSource
from models.backbones.stacks import MediaBatch, MediaEncoder
from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures

CHECKPOINT_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
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

    def read(self, media: Media) -> MediaBatch:
        """Return (1, 3, H, W) float32."""
        # It was checked when it was uploaded, by the limits of that day.
        return self._process(pictures.decode(media.data, media.name, UNLIMITED, shortest=self._shortest))

    def scale(self, pixels_PHW3: NDArray[np.uint8]) -> Tensor:
        """Return pixels as the network's input (P, 3, H, W) float32, in the size that they have."""
        values_P3HW = torch.from_numpy(pixels_PHW3).permute(0, 3, 1, 2).float()
        settings = self._processor
        if getattr(settings, "do_rescale", True):
            values_P3HW = values_P3HW * float(settings.rescale_factor)
        if getattr(settings, "do_normalize", False):
            mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (settings.image_mean, settings.image_std))
            values_P3HW = (values_P3HW - mean) / deviation
        return values_P3HW.contiguous()

    def probes(self) -> MediaBatch:
        """Return two pictures: noise, and a slope with a disc on it."""
        generator = np.random.default_rng(0)
        noise_HWC = generator.integers(0, 255, (256, 256, 3), dtype=np.uint8)
        y_HW, x_HW = np.mgrid[0:256, 0:256]
        slope_HWC = np.stack([x_HW, y_HW, np.where((x_HW - 90) ** 2 + (y_HW - 120) ** 2 < 3_600, 230, 30)], axis=2)
        generated = (noise_HWC, slope_HWC.astype(np.uint8))
        return stacks.join([self._process(Image.fromarray(pixels_HWC)) for pixels_HWC in generated])

    def _process(self, picture: Image.Image) -> MediaBatch:
        return stacks.one_row(self._processor(images=picture, return_tensors="pt")["pixel_values"])


def load(entry: BackboneEntry, *, device: torch.device, precision: str, threads: int) -> MediaBackbone:
    """Load a picture base. Raises BaseModelUnreachable and UnsupportedBaseModel."""
    source = entry.source
    unpacked = torchvision_weights.unpack(entry, source) if isinstance(source, PackedSource) else None
    folder = unpacked or registry.folder_of(entry)
    reader = PictureReader(load_processor(entry, folder))

    def load_model() -> Any:
        model = from_pretrained(AutoModel, entry, folder, dtype=torch.float32, use_safetensors=True).eval()
        return getattr(model, "vision_model", model)  # of one that reads pictures and texts, what reads pictures

    def read() -> MediaEncoder:
        return architectures.build(load_model(), name=entry.name)

    model = load_model()
    media.check_walk(model, architectures.build(model, name=entry.name), reader.probes(), name=entry.name)
    return media.assemble(
        Checkpoint(entry, revision_of(entry, folder, CHECKPOINT_FILES), read),
        reader,
        device=device,
        precision=precision,
        threads=threads,
        batch_entries=_CPU_BATCH if device.type == "cpu" else _GPU_BATCH,
    )


class _Processors:
    """The library's processors that work with Pillow, and one of ours in place of one that wants torchvision."""

    @staticmethod
    def from_pretrained(source: str | Path, **options: Any) -> Any:
        asked = {name: options[name] for name in ("revision", "local_files_only") if name in options}
        settings = get_image_processor_config(source, **asked)
        if settings.get("image_processor_type") in float_processor.NAMES:
            return FloatProcessor(settings)
        library: Any = AutoImageProcessor  # its functions carry no types
        return library.from_pretrained(source, backend="pil", **options)


def load_processor(entry: BackboneEntry, folder: Path | None) -> Any:
    """Return the checkpoint's own processor of pictures. Raises BaseModelUnreachable."""
    try:
        return from_pretrained(_Processors, entry, folder)
    except ImportError as error:
        raise BaseModelUnreachable(
            name=entry.name,
            source=entry.source,
            reason=str(error).strip().splitlines()[0],
            mend="Use a checkpoint whose image processor works with Pillow.",
        ) from error
