"""Picture and sound networks of Hugging Face, as embeddings and a list of blocks.

The modules are its own, found by the names that its architectures have in common, so that MobileNetV1 and V2, ResNet,
RegNet, ConvNeXT, ViT, DeiT, DINOv2, SigLIP, AST, wav2vec 2.0 and HuBERT need no code of their own. DINOv3's blocks are
told where their tokens are (`square_places`), and of Whisper's windows only a part holds sound (`whisper`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from models.backbones.errors import UnsupportedBaseModel
from models.backbones.square_places import SquarePlaces
from models.backbones.stacks import MediaEncoder
from models.backbones.whisper import Frames, WhisperEncoder


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
        output = self.layer(hidden_PTD, **self._told(hidden_PTD))
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden if self.norm is None else _tensor(self.norm(hidden))

    def _told(self, hidden_PTD: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Return what the layer takes beside the hidden state."""
        return {}


class _Unmasked(_Layer):
    """A transformer's layer that wants to be told that nothing is masked."""

    def _told(self, hidden_PTD: Tensor) -> dict[str, Any]:  # noqa: ARG002
        return {"attention_mask": None}


class _Rotary(_Layer):
    """A transformer's layer that is told where its tokens are."""

    def __init__(self, layer: nn.Module, places: SquarePlaces, norm: nn.Module | None = None) -> None:
        super().__init__(layer, norm)
        self._places = places

    def _told(self, hidden_PTD: Tensor) -> dict[str, Any]:
        return {"position_embeddings": self._places.angles(hidden_PTD)}


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
    return MediaEncoder(model.embeddings, blocks, is_map=False, special=_special_tokens(model))


def _dinov3(model: Any) -> MediaEncoder:
    special = _special_tokens(model)
    places = SquarePlaces(model.rope_embeddings, int(model.config.patch_size), special)
    layers = list(model.model.layer)
    blocks = [_Rotary(layer, places) for layer in layers[:-1]] + [_Rotary(layers[-1], places, model.norm)]
    return MediaEncoder(model.embeddings, blocks, is_map=False, special=special)


def _special_tokens(model: Any) -> int:
    return sum(
        getattr(model.embeddings, token, None) is not None for token in ("cls_token", "distillation_token")
    ) + int(getattr(model.config, "num_register_tokens", 0) or 0)


def _siglip(model: Any) -> MediaEncoder:
    layers = list(model.encoder.layers)
    blocks = [_Unmasked(layer) for layer in layers[:-1]] + [_Unmasked(layers[-1], model.post_layernorm)]
    return MediaEncoder(model.embeddings, blocks, is_map=False)


def _waves(model: Any) -> MediaEncoder:
    layers = list(model.encoder.layers)
    last = model.encoder.layer_norm if _normalises_inside(model) else None
    blocks = [_Layer(layer) for layer in layers[:-1]] + [_Layer(layers[-1], last)]
    return MediaEncoder(_Waves(model), blocks, is_map=False)


def _whisper(model: Any) -> MediaEncoder:
    layers = list(model.layers)
    for layer in layers:  # numbers there, not modules: fine-tuning could not turn them off
        layer.dropout = layer.activation_dropout = layer.self_attn.dropout = 0.0
    blocks = [_Unmasked(layer) for layer in layers[:-1]] + [_Unmasked(layers[-1], model.layer_norm)]
    return WhisperEncoder(Frames(model), blocks, is_map=False)


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
    (_has("embeddings", "encoder.layers", "post_layernorm"), _siglip),
    (_has("embeddings", "rope_embeddings", "model.layer", "norm"), _dinov3),
    (_has("conv1", "conv2", "embed_positions", "layers", "layer_norm"), _whisper),
    (_has("feature_extractor", "feature_projection", "encoder.pos_conv_embed", "encoder.layers"), _waves),
)
