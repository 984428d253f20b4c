"""What the frozen part of a model makes of views of the training pictures: computed once, kept where it fits.

A head's step costs less than the base's pass before it. So an epoch does not draw new views for ever: there are so many
of each picture, and from the second time on a view costs nothing but its memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.backbones import maps
from models.backbones.maps import PictureBase
from models.backbones.media import MediaBackbone
from models.backbones.parallel import in_parallel
from models.learning.contract.errors import Stopped
from models.learning.detection import canvas as canvases
from models.learning.detection import views
from models.learning.detection.canvas import Canvas, Floats
from models.learning.detection.material import Picture
from models.learning.detection.model import PIXELS, DetectionModel
from models.learning.detection.views import View

_KEPT_BYTES = 3 * 2**29  # of views
_DECODED_BYTES = 2**28  # of decoded pictures


@dataclass(frozen=True, slots=True)
class FrozenView:
    """A view as the part of the model that trains reads it: maps by depth, (C, h, w) each, and its boxes."""

    maps: Mapping[int, Tensor]
    boxes_M4: Floats
    labels_M: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory of the maps."""
        return sum(each.nbytes for each in self.maps.values())


class FrozenViews:
    """Views of pictures by (index of the picture, number of the view). One caller at a time; it uses threads."""

    def __init__(
        self,
        backbone: PictureBase,
        model: DetectionModel,
        canvas: Canvas,
        pictures_: Sequence[Picture],
        *,
        seed: int,
        dtype: torch.dtype = torch.bfloat16,
        zoom: float = views.NEARER,
    ) -> None:
        """Keep nothing yet; what is kept takes half the memory in bf16. `zoom`: that of the nearest view to be read."""
        self._dtype = dtype
        self._zoom = zoom
        self._backbone = backbone
        self._depths = model.frozen_depths
        self.canvas = canvas
        self._pictures = pictures_
        self._seed = seed
        self._kept: dict[tuple[int, int], FrozenView] = {}
        self._kept_bytes = 0
        self._decoded: OrderedDict[int, Image.Image] = OrderedDict()
        self._decoded_bytes = 0

    def fitting(self, most: int) -> int:
        """Return of how many views of each picture all can be kept, `most` at the most and two at least."""
        one = self.read([(0, 0)], stop=lambda: False)[0]
        return max(2, min(most, _KEPT_BYTES // max(1, one.nbytes * len(self._pictures))))

    def read(self, wanted: Sequence[tuple[int, int]], *, stop: Callable[[], bool]) -> list[FrozenView]:
        """Return views in the order asked for. Raises Stopped."""
        missing = [each for each in dict.fromkeys(wanted) if each not in self._kept]

        def compute(key: tuple[int, int]) -> FrozenView:
            if stop():
                raise Stopped
            return self._compute(*key)

        # One at a time: what a view becomes does not depend on which others are missing, be it after a kill.
        computed = dict(zip(missing, in_parallel(compute, missing, threads=self._backbone.threads), strict=True))
        for key, view in computed.items():
            if self._kept_bytes + view.nbytes <= _KEPT_BYTES:
                self._kept[key] = view
                self._kept_bytes += view.nbytes
        return [self._kept.get(key) or computed[key] for key in wanted]

    def _compute(self, index: int, number: int) -> FrozenView:
        picture = self._pictures[index]
        view = views.draw_view(picture.size, self.canvas, seed=self._seed, picture=index, number=number)
        pixels_HW3 = self._draw(index, view)
        boxes_M4, seen_M = views.seen(view.placement.onto(picture.boxes_M4), self.canvas)
        labels_M = picture.truth.label_B[seen_M]
        if not self._depths:
            return FrozenView({PIXELS: torch.from_numpy(pixels_HW3)}, boxes_M4, labels_M)
        assert isinstance(self._backbone, MediaBackbone)  # noqa: S101  (others have no maps to be kept)
        with torch.no_grad():
            found = maps.compute(self._backbone.encoder, self._depths, maps.values(self._backbone, pixels_HW3[None]))
            kept = {depth: found[depth][0].to(self._dtype).clone() for depth in self._depths}
        return FrozenView(kept, boxes_M4, labels_M)

    def _draw(self, index: int, view: View) -> NDArray[np.uint8]:
        picture = self._pictures[index]
        decoded = self._decoded.get(index)
        if decoded is None:
            decoded = canvases.decode(picture.media, picture.size, self.canvas, zoom=self._zoom)
            size = 3 * decoded.width * decoded.height
            if self._decoded_bytes + size <= _DECODED_BYTES:
                self._decoded[index] = decoded
                self._decoded_bytes += size
        drawn_HW3 = canvases.draw(decoded, picture.size, view.placement, self.canvas)
        return views.relight(drawn_HW3, view)


def batch(views_: Sequence[FrozenView], backbone: PictureBase) -> dict[int, Tensor]:
    """Return the maps of some views, (B, C, h, w) by depth, as the model reads them."""
    if PIXELS in views_[0].maps:
        return {PIXELS: maps.values(backbone, np.stack([each.maps[PIXELS].numpy() for each in views_]))}
    return {
        depth: torch.stack([each.maps[depth] for each in views_]).to(backbone.device, torch.float32)
        for depth in views_[0].maps
    }
