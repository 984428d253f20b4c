"""A pretrained detector with class heads for the customer's labels, trained by its own loss."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from models.artifacts.parts import DetectorWeights, Part
from models.backbones import detector
from models.backbones.detector import DetectorBackbone
from models.learning.detection.model import PIXELS
from models.learning.detection.network import ScoredBoxes
from models.learning.detection.truth import Truth

_BACKBONE = "model.backbone."  # the convolutions below a detector
_drawing = threading.Lock()  # a loss draws from torch's own generator, which all threads share


class PretrainedModel:
    """RT-DETR or D-FINE; see `model.DetectionModel`. What does not train is the base's own tensors."""

    trained_blocks = None

    def __init__(self, backbone: DetectorBackbone, labels: int, names: Collection[str], *, seed: int = 0) -> None:
        """Build it with the base's weights and new class heads, drawn by `seed`; parameters called `names` train."""
        self.labels = labels
        self.network: Any = backbone.with_labels(labels, seed=seed)
        before = dict(self.network.named_parameters())
        detector.own(self.network, {name: before[name].detach().clone() for name in names})
        named = dict(self.network.named_parameters())
        self.values: dict[str, Tensor] = {_key(name): named[name].requires_grad_() for name in names}
        # Layers with running statistics never leave eval mode: small data sets spoil them.
        self._switched = [each for each in self.network.modules() if not isinstance(each, _BatchNorm)]

    @property
    def frozen_depths(self) -> list[int]:
        """Return []: every part of it may train."""
        return []

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take trained parameters, some or all, by their names in the base."""
        with torch.no_grad():
            for name, tensor in weights.items():
                self.values[_key(name)].copy_(tensor)

    def trained(self) -> dict[str, Tensor]:
        """Return a copy of the parameters that train, by their names in the base."""
        return {key.partition(".")[2]: each.detach().clone() for key, each in self.values.items()}

    def forward(self, frozen: Mapping[int, Tensor]) -> ScoredBoxes:
        """Answer from `PIXELS`."""
        self._switch(training=False)
        return answer(self.network, frozen[PIXELS])

    def losses(self, frozen: Mapping[int, Tensor], truth: Truth, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return the loss of the labels and that of the edges, each over all layers and over the noisy queries."""
        values_B3HW = frozen[PIXELS]
        self._switch(training=True)
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = self.network(pixel_values=values_B3HW, labels=_labels(truth, values_B3HW.shape[-2:]))
        by_label = [each for name, each in found.loss_dict.items() if name.startswith("loss_vfl")]
        scored = torch.stack(by_label).sum()
        return scored, found.loss - scored

    def details(self) -> dict[str, Any]:
        """Return the number of labels."""
        return {"labels": self.labels}

    def parts(self) -> tuple[Part, ...]:
        """Return the parameters that trained, under their names in the base."""
        return (DetectorWeights(self.trained()),)

    def _switch(self, *, training: bool) -> None:
        for module in self._switched:
            module.training = training


def restore(backbone: DetectorBackbone, labels: int, weights: Mapping[str, Tensor]) -> Any:
    """Return a trained network, which shares what did not train with the base. Raises KeyError, ValueError."""
    network: Any = backbone.with_labels(labels, seed=0)
    named = dict(network.named_parameters())
    missing = {name for name in named if detector.is_class_head(name)} - weights.keys()
    wrong = [name for name, tensor in weights.items() if tensor.shape != named[name].shape]
    if missing or wrong:
        raise ValueError(f"its parameters are not those of the base: {', '.join(sorted([*missing, *wrong])[:3])}")
    detector.own(network, {name: tensor.to(backbone.device) for name, tensor in weights.items()})
    return network.eval()


def answer(network: Any, values_B3HW: Tensor) -> ScoredBoxes:
    """Return the boxes of all queries, in pixels of the canvas."""
    # The library keeps positions of a size for the next pass: made in inference mode, they could not be trained with.
    with torch.inference_mode(False), torch.no_grad():
        found = network(pixel_values=values_B3HW)
    height, width = values_B3HW.shape[-2:]
    middle_BQ2, size_BQ2 = found.pred_boxes.float().chunk(2, dim=-1)
    edges_BQ4 = torch.cat([middle_BQ2 - size_BQ2 / 2, middle_BQ2 + size_BQ2 / 2], dim=-1)
    return ScoredBoxes(found.logits.float(), edges_BQ4 * edges_BQ4.new_tensor([width, height, width, height]))


def _labels(truth: Truth, shape: torch.Size) -> list[dict[str, Tensor]]:
    """Return the boxes as the library's losses read them: middle and size, as shares of the canvas."""
    height, width = shape
    edges_BM4 = truth.boxes_BM4 / truth.boxes_BM4.new_tensor([width, height, width, height])
    first_BM2, last_BM2 = edges_BM4.chunk(2, dim=-1)
    boxes_BM4 = torch.cat([(first_BM2 + last_BM2) / 2, last_BM2 - first_BM2], dim=-1)
    rows = zip(boxes_BM4, truth.labels_BM, truth.present_BM, strict=True)
    return [
        {"boxes": boxes_M4[present_M], "class_labels": labels_M[present_M]} for boxes_M4, labels_M, present_M in rows
    ]


def _key(name: str) -> str:
    return f"{'encoder' if name.startswith(_BACKBONE) else 'detector'}.{name}"
