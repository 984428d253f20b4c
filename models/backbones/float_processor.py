"""DINOv3's processor of pictures, as transformers has it for torchvision only: scaled first, then resized in floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

NAMES = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class FloatProcessor:
    """Takes the settings of a `preprocessor_config.json`; raises ValueError for what it does not do."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.size: Mapping[str, int] = settings.get("size", {})
        self.do_rescale = bool(settings.get("do_rescale", True))
        self.rescale_factor = float(settings.get("rescale_factor", 1 / 255))
        self.do_normalize = bool(settings.get("do_normalize", True))
        self.image_mean = settings.get("image_mean", _IMAGENET_MEAN)
        self.image_std = settings.get("image_std", _IMAGENET_STD)
        self._mode = _MODES.get(settings.get("resample", 2))
        if self._mode is None or settings.get("do_center_crop") or not {"height", "width"} <= self.size.keys():
            raise ValueError("its processor does more than to resize pictures to a height and a width")

    def __call__(self, images: Image.Image, return_tensors: str = "pt") -> dict[str, Tensor]:  # noqa: ARG002
        """Return `pixel_values`, (1, 3, H, W) float32."""
        values_13HW = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None].float()
        if self.do_rescale:
            values_13HW = values_13HW * self.rescale_factor
        sides = int(self.size["height"]), int(self.size["width"])
        # What torchvision calls for its `resize(…, antialias=True)`.
        values_13HW = functional.interpolate(values_13HW, sides, mode=str(self._mode), antialias=True)
        if self.do_normalize:
            mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (self.image_mean, self.image_std))
            values_13HW = (values_13HW - mean) / deviation
        return {"pixel_values": values_13HW}
