"""The networks under picture and sound backbones: embeddings and a list of blocks.

The modules are those of Hugging Face's own models, found by the names that its architectures have in common, so that
MobileNetV1 and V2, ResNet, RegNet, ConvNeXT, ViT, DeiT, DINOv2, AST, wav2vec 2.0 and HuBERT need no code of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import feature_names
from models.backbones.errors import UnsupportedBaseModel

BANDS = 4


@dataclass(frozen=True, slots=True)
class MediaBatch:
    """Entries of the network's input, (P, …), and their rows: row r has the entries `starts[r]` to the next start.

    A picture is one entry; a sound is one for every patch of it.
    """

    values: Tensor
    starts: tuple[int, ...]  # rows + 1 of them

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1


class MediaEncoder(nn.Module):
    """`embeddings` and `blocks`. The hidden state is maps (P, C, H, W) or tokens (P, T, D), by `is_map`.

    Normalisation layers with running statistics never leave eval mode: small data sets spoil them, and converted
    checkpoints carry placeholders.
    """

    def __init__(self, embeddings: nn.Module, blocks: Sequence[nn.Module], *, is_map: bool, special: int = 0) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = nn.ModuleList(blocks)
        self.is_map = is_map
        self.special = special  # tokens in front that are of no place

    def embed(self, batch: MediaBatch) -> Tensor:
        """Return the hidden state at depth 0."""
        hidden: Tensor = self.embeddings(batch.values.to(next(self.parameters()).dtype))
        return hidden

    def run(
        self, batch: MediaBatch, hidden: Tensor, start: int, stop: int, *, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run blocks `start` to `stop - 1`; return the end and the tapped depths (d: the state after d blocks)."""
        del batch
        tapped = {start: hidden} if start in taps else {}
        for depth in range(start, stop):
            hidden = self.blocks[depth](hidden)
            if depth + 1 in taps:
                tapped[depth + 1] = hidden
        return hidden, tapped

    def pool(self, hidden: Tensor, batch: MediaBatch, kind: str) -> Tensor:
        """Return one float32 vector per row; see the function of this name. `unit_` in front: scaled to length 1."""
        unit, pooling = feature_names.split_unit(kind)
        pooled_BD = pool(hidden, batch, pooling, is_map=self.is_map, special=self.special)
        return nn.functional.normalize(pooled_BD, dim=1) if unit else pooled_BD

    def train(self, mode: bool = True) -> MediaEncoder:
        """Set the mode of all modules but normalisation layers with running statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def build(model: Any, *, name: str) -> MediaEncoder:
    """Return the encoder inside a Hugging Face model; raises UnsupportedBaseModel."""
    for recognise, convert in _ARCHITECTURES:
        if recognise(model):
            return convert(model)
    raise UnsupportedBaseModel(name=name, architecture=type(model).__name__)


class _Layer(nn.Module):
    """A transformer's layer that returns its hidden state alone; behind the last one comes the norm."""

    def __init__(self, layer: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.norm = norm

    def forward(self, hidden_PTD: Tensor) -> Tensor:
        output = self.layer(hidden_PTD)
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden if self.norm is None else _tensor(self.norm(hidden))


class _Waves(nn.Module):
    """Embeddings of wav2vec 2.0 and its relatives: convolutions over samples, projection, positions."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.convolutions = model.feature_extractor
        self.projection = model.feature_projection
        self.positions = model.encoder.pos_conv_embed
        # Variants that normalise inside their layers do it once more behind the last one instead.
        self.norm = None if _normalises_inside(model) else model.encoder.layer_norm

    def forward(self, samples_PN: Tensor) -> Tensor:
        projected = self.projection(self.convolutions(samples_PN).transpose(1, 2))
        hidden_PTD = projected[0] if isinstance(projected, tuple) else projected
        hidden_PTD = hidden_PTD + self.positions(hidden_PTD)
        return hidden_PTD if self.norm is None else _tensor(self.norm(hidden_PTD))


def _tensor(output: Any) -> Tensor:
    assert isinstance(output, Tensor)  # noqa: S101  (what a norm gives)
    return output


def _mobilenet(model: Any) -> MediaEncoder:
    layers = list(model.layer)
    if type(model).__name__.startswith("MobileNetV1"):  # depthwise and pointwise alternate: a block is both
        layers = [nn.Sequential(*layers[at : at + 2]) for at in range(0, len(layers), 2)]
    if hasattr(model, "conv_1x1"):
        layers.append(model.conv_1x1)
    return MediaEncoder(model.conv_stem, layers, is_map=True)


def _staged(model: Any) -> MediaEncoder:
    layers = [layer for stage in model.encoder.stages for layer in stage.layers]
    return MediaEncoder(model.embedder, layers, is_map=True)


def _convnext(model: Any) -> MediaEncoder:
    return MediaEncoder(model.embeddings, list(model.encoder.stages), is_map=True)


def _transformer(model: Any) -> MediaEncoder:
    layers = list(model.layers if hasattr(model, "layers") else model.encoder.layer)
    blocks = [_Layer(layer) for layer in layers[:-1]] + [_Layer(layers[-1], model.layernorm)]
    special = sum(
        getattr(model.embeddings, token, None) is not None for token in ("cls_token", "distillation_token")
    ) + int(getattr(model.config, "num_register_tokens", 0) or 0)
    return MediaEncoder(model.embeddings, blocks, is_map=False, special=special)


def _waves(model: Any) -> MediaEncoder:
    layers = list(model.encoder.layers)
    last = model.encoder.layer_norm if _normalises_inside(model) else None
    blocks = [_Layer(layer) for layer in layers[:-1]] + [_Layer(layers[-1], last)]
    return MediaEncoder(_Waves(model), blocks, is_map=False)


def _normalises_inside(model: Any) -> bool:
    return bool(getattr(model.config, "do_stable_layer_norm", False))


def _has(*paths: str) -> Callable[[Any], bool]:
    def recognise(model: Any) -> bool:
        for path in paths:
            found = model
            for part in path.split("."):
                found = getattr(found, part, None)
            if not isinstance(found, nn.Module):
                return False
        return True

    return recognise


_ARCHITECTURES: tuple[tuple[Callable[[Any], bool], Callable[[Any], MediaEncoder]], ...] = (
    (_has("conv_stem", "layer"), _mobilenet),
    (_has("embedder", "encoder.stages"), _staged),
    (_has("embeddings", "encoder.stages"), _convnext),
    (_has("embeddings", "layers", "layernorm"), _transformer),
    (_has("embeddings", "encoder.layer", "layernorm"), _transformer),
    (_has("feature_extractor", "feature_projection", "encoder.pos_conv_embed", "encoder.layers"), _waves),
)


def pool(hidden: Tensor, batch: MediaBatch, kind: str, *, is_map: bool, special: int) -> Tensor:
    """Return one float32 vector per row. All places of all its patches count alike.

    `mean`, `max` and `std` over places; `bands`: the mean in each quarter of a map's last axis, which for a sound is
    the pitch; `cls`: the first token.
    """
    hidden = hidden.float()
    if kind == "cls":
        return _per_row(hidden[:, 0], batch, torch.mean)
    if kind == "bands":
        quarters_PCQ = nn.functional.adaptive_avg_pool2d(hidden, (1, BANDS)).flatten(1)
        return _per_row(quarters_PCQ, batch, torch.mean)
    places_PLC = hidden.flatten(2).transpose(1, 2) if is_map else hidden[:, special:]
    if kind == "max":
        return _per_row(places_PLC.amax(1), batch, torch.amax)
    mean_BC = _per_row(places_PLC.mean(1), batch, torch.mean)
    if kind == "mean":
        return mean_BC
    square_BC = _per_row(places_PLC.square().mean(1), batch, torch.mean)
    return (square_BC - mean_BC.square()).clamp(min=0).sqrt()


def _per_row(vectors_PC: Tensor, batch: MediaBatch, reduce: Callable[..., Tensor]) -> Tensor:
    if batch.rows == len(vectors_PC):
        return vectors_PC
    spans = zip(batch.starts[:-1], batch.starts[1:], strict=True)
    return torch.stack([reduce(vectors_PC[start:end], 0) for start, end in spans])
