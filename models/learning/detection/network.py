"""The detector: a feature pyramid on a base's maps, and a head without anchors that all of its levels share.

The pyramid is Lin et al.'s (2017), the head FCOS's (Tian et al. 2019) with the losses of TOOD (Feng et al. 2021). Group
normalisation, not batch normalisation: a picture's answers do not depend on its neighbours, in training or serving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.maps import MapLevel

CHANNELS = 96
_GROUPS = 8
_RARE = 0.01  # the score of every place before anything is learned
_FARTHEST = 6.0  # exponent of a distance in strides
_HALF_SIZE = 1.5  # of a box before anything is learned, in strides, in logarithms


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of a detector; JSON-ready."""

    levels: tuple[MapLevel, ...]
    labels: int
    channels: int

    def as_details(self) -> dict[str, Any]:
        """Return the form for a manifest; `of` reads it back."""
        levels = [[level.stride, level.depth, level.width] for level in self.levels]
        return {"levels": levels, "labels": self.labels, "channels": self.channels}

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Layout:
        """Read what `as_details` wrote; raises KeyError, TypeError, ValueError."""
        levels = tuple(MapLevel(*map(int, each)) for each in details["levels"])
        return cls(levels, int(details["labels"]), int(details["channels"]))


@dataclass(frozen=True, slots=True)
class ScoredBoxes:
    """A boxes in each of B pictures with logits of K labels; in pixels of the canvas."""

    logits_BAK: Tensor
    boxes_BA4: Tensor


@dataclass(frozen=True, slots=True)
class Found(ScoredBoxes):
    """What a detector says of A places; a place has one box."""

    centres_A2: Tensor


class Detector(nn.Module):
    """Pyramid and head; maps in, logits and boxes out."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        channels = layout.channels
        self.layout = layout
        self.strides = [level.stride for level in layout.levels]
        self.laterals = nn.ModuleList(nn.Conv2d(level.width, channels, 1) for level in layout.levels)
        self.smooth = nn.ModuleList(_Block(channels) for _ in layout.levels)
        self.label_tower = nn.Sequential(_Block(channels), _Block(channels))
        self.box_tower = nn.Sequential(_Block(channels), _Block(channels))
        self.label = nn.Conv2d(channels, layout.labels, 3, padding=1)
        self.distance = nn.Conv2d(channels, 4, 3, padding=1)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first weights: the same for the same generator."""
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear", generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
            for last, bias in ((self.label, math.log(_RARE / (1 - _RARE))), (self.distance, _HALF_SIZE)):
                nn.init.normal_(last.weight, std=0.01, generator=generator)
                last.get_parameter("bias").add_(bias)

    def standardise(self, mean: Sequence[Tensor], deviation: Sequence[Tensor]) -> None:
        """Make the pyramid read maps as if every channel had mean 0 and deviation 1, by its first layers' weights."""
        with torch.no_grad():
            for lateral, mean_C, deviation_C in zip(self.laterals, mean, deviation, strict=True):
                weight, bias = lateral.get_parameter("weight"), lateral.get_parameter("bias")
                weight.div_(deviation_C[None, :, None, None])
                bias.sub_(weight[:, :, 0, 0] @ mean_C)

    def forward(self, maps: Sequence[Tensor]) -> Found:
        """Answer for every place of every level; `maps` as in the layout's levels, (B, C, h, w) each."""
        merged = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=True)]
        for at in range(len(merged) - 2, -1, -1):
            larger = F.interpolate(merged[at + 1], size=merged[at].shape[-2:], mode="nearest")
            merged[at] = merged[at] + larger
        logits, boxes, centres = [], [], []
        for smooth, hidden, stride in zip(self.smooth, merged, self.strides, strict=True):
            hidden = smooth(hidden)  # noqa: PLW2901
            logits.append(self.label(self.label_tower(hidden)).flatten(2))
            distances_B4P = self.distance(self.box_tower(hidden)).flatten(2)
            centres_P2 = _centres(hidden.shape[-2:], stride, hidden.device)
            reach_BP4 = distances_B4P.transpose(1, 2).float().clamp(max=_FARTHEST).exp() * stride
            boxes.append(torch.cat([centres_P2 - reach_BP4[..., :2], centres_P2 + reach_BP4[..., 2:]], dim=-1))
            centres.append(centres_P2)
        return Found(torch.cat(logits, 2).transpose(1, 2).float(), torch.cat(boxes, 1), torch.cat(centres))


class _Block(nn.Module):
    """3 × 3 convolution, group normalisation, SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.silu(self.norm(self.convolution(hidden)))


def _centres(shape: torch.Size, stride: int, device: torch.device) -> Tensor:
    """Return the middle of every place, (P, 2) as x and y in pixels of the canvas."""
    height, width = shape
    y_P, x_P = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) * stride,
        (torch.arange(width, device=device) + 0.5) * stride,
        indexing="ij",
    )
    return torch.stack([x_P.flatten(), y_P.flatten()], dim=-1)
