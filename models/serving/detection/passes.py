"""One pass: pictures onto canvases, the base once for all of one size, then each version's own pyramid and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones import maps
from models.backbones.maps import PictureBase
from models.backbones.media import MediaBackbone
from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures
from models.learning.detection import answers, canvas
from models.learning.detection.model import PIXELS
from models.serving.detection.adapter import DetectionAdapter

COST = 256  # of one picture, in tokens of text


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture, decoded when its pass begins: encoded it takes a tenth of the memory."""

    media: Media
    size: tuple[int, int]  # width, height, upright

    def __len__(self) -> int:
        return COST


def tokenize(backbone: Any, inputs: Sequence[Media], *_: Any) -> list[PictureRow]:  # noqa: ARG001
    """Return one row per picture, from its header. Raises BadValue."""
    found = []
    for media in inputs:
        measured = pictures.measure(media.data, media.name, UNLIMITED)  # limits were checked when it came
        found.append(PictureRow(media, (measured.width, measured.height)))
    return found


@torch.inference_mode()
def answer(
    backbone: PictureBase, rows: Sequence[PictureRow], adapters: Sequence[DetectionAdapter]
) -> list[NDArray[np.float32]]:
    """Return the boxes of each picture, (M, 6) as in `answers.read`, in the order of the rows."""
    outputs: list[NDArray[np.float32]] = [np.empty((0, 6), dtype=np.float32)] * len(rows)
    for chosen in _groups([(adapter.canvas, id(adapter.network)) for adapter in adapters]):
        own = [adapters[at] for at in chosen]
        pixels_BHW3 = np.stack([_draw(rows[at], adapters[at].canvas) for at in chosen])
        found = _maps(backbone, own, pixels_BHW3)
        for places in _groups([id(adapter) for adapter in own]):
            adapter = own[places[0]]
            index = torch.tensor(places, device=backbone.device)
            answered = adapter.detector([found[depth][index].float() for depth in adapter.depths])
            sizes = [rows[chosen[place]].size for place in places]
            placements = [canvas.fit(size, adapter.canvas) for size in sizes]
            for place, output in zip(places, answers.read(answered, placements, sizes), strict=True):
                outputs[chosen[place]] = output
    return outputs


def _maps(
    backbone: PictureBase, adapters: Sequence[DetectionAdapter], pixels_BHW3: NDArray[np.uint8]
) -> Mapping[int, Tensor]:
    values_B3HW = maps.values(backbone, pixels_BHW3)
    if not isinstance(backbone, MediaBackbone):
        return {PIXELS: values_B3HW}
    network = adapters[0].network
    depths = sorted({depth for adapter in adapters for depth in adapter.depths})
    return maps.compute(network or backbone.encoder, depths, values_B3HW)


def _draw(row: PictureRow, size: canvas.Canvas) -> NDArray[np.uint8]:
    decoded = canvas.decode(row.media, row.size, size)
    return canvas.draw(decoded, row.size, canvas.fit(row.size, size), size)


def _groups(keys: Sequence[object]) -> list[list[int]]:
    """Return the indices of equal keys together, in the order in which they first occur."""
    found: dict[object, list[int]] = {}
    for at, key in enumerate(keys):
        found.setdefault(key, []).append(at)
    return list(found.values())
