"""Base models that find boxes themselves: pretrained detectors of transformers, RT-DETR (arXiv:2304.08069) and D-FINE
(arXiv:2410.13842). Thread-safe once loaded; the weights are never written to.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.backbones import registry
from models.backbones.batches import RowEncoding
from models.backbones.checkpoint import from_pretrained, revision_of
from models.backbones.errors import BaseModelUnreachable, UnsupportedDetector
from models.backbones.registry import BackboneEntry

if TYPE_CHECKING:
    from models.backbones.image import PictureReader

ARCHITECTURES = ("rt_detr", "d_fine")
_CLASS_HEADS = frozenset({"class_embed", "enc_score_head", "denoising_class_embed"})
_BOX_HEADS = frozenset({"bbox_embed", "enc_bbox_head"})
_RARE = 0.01  # a label's score before anything is learned, as in the published recipes


class DetectorBackbone(RowEncoding):
    """A frozen detector, shared by all customers."""

    def __init__(
        self, entry: BackboneEntry, revision: str, network: Any, reader: PictureReader, *, threads: int
    ) -> None:
        self.entry = entry
        self.revision = revision
        self.network: nn.Module = network
        self.reader = reader
        self.blocks = int(network.config.decoder_layers)
        self.width = int(network.config.d_model)
        parameter = next(self.network.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self.threads = threads if self.device.type == "cpu" else 1
        # Some numbers of D-FINE are parameters that its makers never train.
        self.trainable = tuple(name for name, each in self.network.named_parameters() if each.requires_grad)
        self.network.requires_grad_(False).eval()

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the parameters that say label and edges of a box."""
        return tuple(name for name in self.trainable if not (_CLASS_HEADS | _BOX_HEADS).isdisjoint(name.split(".")))

    def with_labels(self, labels: int, *, seed: int) -> nn.Module:
        """Return the network with class heads for so many labels, drawn by `seed`; all other tensors are the base's."""
        shared = {id(each): each for each in (*self.network.parameters(), *self.network.buffers())}
        network: Any = copy.deepcopy(self.network, shared)
        network.config.num_labels = labels
        generator = torch.Generator().manual_seed(seed)
        drawn: dict[str, Tensor] = {}
        for name, each in network.named_parameters():
            if is_class_head(name):
                drawn[name] = _draw(each, _rows(name, labels), network.config, generator)
        for name, module in network.named_modules():
            if is_class_head(name):
                _resize(module, labels)
        own(network, drawn)
        return network  # type: ignore[no-any-return]


def is_class_head(name: str) -> bool:
    """Return whether a parameter or a module depends on how many labels there are."""
    return not _CLASS_HEADS.isdisjoint(name.split("."))


def own(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network parameters of its own by their names; those that are tied to each other stay tied."""
    named = dict(network.named_parameters())
    fresh = {id(named[name]): nn.Parameter(tensor, requires_grad=False) for name, tensor in tensors.items()}
    for module in network.modules():
        for name, each in list(module.named_parameters(recurse=False)):
            if id(each) in fresh:
                setattr(module, name, fresh[id(each)])


def load(entry: BackboneEntry, *, device: torch.device, precision: str, threads: int) -> DetectorBackbone:  # noqa: ARG001
    """Load a detector, in fp32: its boxes are sums of small steps. Raises BaseModelUnreachable, UnsupportedDetector."""
    # Few processes find boxes, and every trainer imports this module: transformers is half of its start.
    from transformers import AutoConfig, AutoModelForObjectDetection  # noqa: PLC0415

    from models.backbones.image import CHECKPOINT_FILES, PictureReader, load_processor  # noqa: PLC0415

    folder = registry.folder_of(entry)
    config = from_pretrained(AutoConfig, entry, folder)
    if config.model_type not in ARCHITECTURES:
        raise UnsupportedDetector(name=entry.name, architecture=config.model_type)
    # A canvas is as large as the customer's boxes need it, not as the base's makers trained it.
    config.anchor_image_size = config.eval_size = None
    reader = PictureReader(load_processor(entry, folder))
    network = _read(AutoModelForObjectDetection, entry, folder, config).to(device)
    return DetectorBackbone(entry, revision_of(entry, folder, CHECKPOINT_FILES), network, reader, threads=threads)


def _read(loader: Any, entry: BackboneEntry, folder: Path | None, config: Any) -> Any:
    try:
        return from_pretrained(loader, entry, folder, config=config, dtype=torch.float32, use_safetensors=True)
    except ImportError as error:  # a convolutional part that another library brings, such as timm
        raise BaseModelUnreachable(
            name=entry.name,
            source=entry.source,
            reason=str(error).strip().splitlines()[0],
            mend="Use a checkpoint whose backbone is part of transformers.",
        ) from error


def _rows(name: str, labels: int) -> int:
    """Return the rows of a class head; the table of noisy labels has one more, for none."""
    return labels + 1 if "denoising_class_embed" in name else labels


def _draw(old: Tensor, rows: int, config: Any, generator: torch.Generator) -> Tensor:
    if old.dim() == 1:
        rare = config.initializer_bias_prior_prob or _RARE
        return torch.full((rows,), rare, device=old.device).logit()
    drawn = nn.init.xavier_uniform_(torch.empty(rows, old.shape[1]), generator=generator)
    return drawn.to(old.device)


def _resize(module: Any, labels: int) -> None:
    if isinstance(module, nn.Linear):
        module.out_features = labels
    if isinstance(module, nn.Embedding):
        module.num_embeddings, module.padding_idx = labels + 1, labels
