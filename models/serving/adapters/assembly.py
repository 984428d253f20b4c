"""From an artifact's files to an adapter in memory, in the precision and on the device of its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.backbones.backbone import Backbone
from models.backbones.packed import PackedBlock, PackedEncoder
from models.backbones.pairs import feature_width
from models.learning import tasks
from models.learning.contract.errors import UnsupportedTask
from models.learning.finetuning.lora import merge
from models.learning.heads import ngram_head
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import OVERHEAD_BYTES, Adapter, gather_lora
from models.serving.adapters.disk_cache import Artifact
from models.serving.encoders.input_modes import input_mode_of
from models.serving.encoders.passes import packed_of
from models.serving.errors import ArtifactBroken, DeviceMemoryFull


def assemble(artifact: Artifact, version: ResolvedVersion, backbone: Backbone) -> Adapter:
    """Raises ArtifactBroken for files that are intact and cannot be an adapter of this base, and DeviceMemoryFull."""
    try:
        return replace(_assemble(artifact, backbone), customer_id=version.customer_id)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryFull(what=f"the model '{version.full_name}'") from error
    except (KeyError, ValueError, TypeError, RuntimeError, UnsupportedTask) as error:
        raise ArtifactBroken(
            model=version.full_name, version=version.number, reason=f"its content does not fit ({error})"
        ) from error


def _assemble(artifact: Artifact, backbone: Backbone) -> Adapter:
    manifest, tensors = artifact.manifest, artifact.tensors
    encoder = packed_of(backbone)
    revision = manifest["base"]["revision"]
    if revision != backbone.revision:
        raise ValueError(f"it was trained on revision {revision[:12]} of its base, here is {backbone.revision[:12]}")
    task = manifest["task"]
    labels = tuple(str(label) for label in manifest["labels"])
    features = tuple(manifest["features"])
    # Logits divided by the temperature, for free: divide the head instead.
    temperature = float(manifest.get("temperature") or 1.0)
    weight_KF = (tensors["head.weight"].float() / temperature).contiguous().to(backbone.device)
    bias_K = (tensors["head.bias"].float() / temperature).contiguous().to(backbone.device)
    if weight_KF.shape != (bias_K.shape[0], sum(feature_width(backbone, name) for name in features)):
        raise ValueError(f"the head is {tuple(weight_KF.shape)} for the features {', '.join(features)}")
    part = ngram_head.load(tensors)
    if part is not None:
        if part.weight_VK.shape[1] != len(bias_K):
            raise ValueError("the lexical part does not have the outputs of the head")
        part = part.scaled(1.0 / temperature)
    network = lora = blocks = own = None
    if encoder is None:
        network = _own_network(tensors, backbone)
    else:
        lora = gather_lora(tensors, encoder)
        own = _own_encoder(tensors, backbone, encoder)
        blocks = _own_blocks(tensors, backbone, encoder) if own is None else None  # a whole base has its blocks in it
    parts = (
        weight_KF.nbytes + bias_K.nbytes + sum(2 * len(label) for label in labels),
        lora.nbytes if lora is not None else 0,
        sum(block.nbytes for block in blocks.values()) if blocks else 0,
        own.nbytes if own is not None else 0,
        part.nbytes if part is not None else 0,
        sum(parameter.nbytes for parameter in network.parameters()) if network is not None else 0,
    )
    return Adapter(
        task=task,
        labels=labels,
        link=tasks.find(task).link,
        features=features,
        weight_KF=weight_KF,
        input_mode=input_mode_of(features) if part is None else "ngrams",
        ngram_head=part,
        bias_K=bias_K,
        thresholds=tuple(float(value) for value in manifest.get("thresholds") or ()),
        lora=lora,
        blocks=blocks,
        encoder=own,
        network=network,
        nbytes=OVERHEAD_BYTES + sum(parts),
    )


def _own_blocks(
    tensors: Mapping[str, Tensor], backbone: Backbone, encoder: PackedEncoder
) -> dict[int, PackedBlock] | None:
    """The customer's top blocks, `block.{i}.{name of the layer's parameter}`; None if it has none."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("block."):
            _, index, parameter = name.split(".", 2)
            states.setdefault(int(index), {})[parameter] = tensor.to(backbone.device)
    return {index: encoder.prepare(state) for index, state in sorted(states.items())} or None


def _own_encoder(tensors: Mapping[str, Tensor], backbone: Backbone, encoder: PackedEncoder) -> PackedEncoder | None:
    """A whole base of the customer's own: all blocks and the embeddings."""
    embeddings = _below("embeddings.", tensors)
    if not embeddings:
        return None
    network = backbone.trainable_copy()
    network.embeddings.load_state_dict(embeddings, strict=False)
    for index, block in enumerate(network.blocks):
        block.load_state_dict(_below(f"block.{index}.", tensors))
    return PackedEncoder(network.embeddings, network.blocks, dtype=encoder.dtype, separator=encoder.separator)


def _own_network(tensors: Mapping[str, Tensor], backbone: Backbone) -> Any:
    """The base with everything that the version changed merged in; None if it changed nothing."""
    if all(name.startswith(("head.", "lexical.")) for name in tensors):
        return None
    network = backbone.trainable_copy().requires_grad_(False).eval()
    state = network.state_dict()
    for name, tensor in tensors.items():
        if name.startswith(("block.", "embeddings.")):
            state[name.replace("block.", "blocks.", 1)].copy_(tensor)
    merge(network.blocks, tensors)
    return network.to(backbone.dtype)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
