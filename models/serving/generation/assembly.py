"""Assembly of a version that writes, from its artifact."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.artifacts.folder import Artifact
from models.artifacts.parts import BlockWeights, LowRankWeights
from models.artifacts.prompt import Prompt
from models.backbones.linear import Linear
from models.backbones.writing import DecoderBackbone
from models.services.catalog import ResolvedVersion
from models.serving.adapters.fitting import fitting
from models.serving.adapters.low_rank import gather_lora
from models.serving.generation.adapters import LORA_MODULES, OVERHEAD_BYTES, OwnNetwork, WritingAdapter
from models.serving.generation.passes import pack


def assemble(
    artifact: Artifact, version: ResolvedVersion, backbone: DecoderBackbone, linears: Mapping[int, Linear]
) -> WritingAdapter:
    """Return the adapter. Raises ArtifactBroken for parts that do not fit this base, and DeviceMemoryFull."""
    with fitting(artifact, version, backbone.revision):
        return _assemble(artifact, version, backbone, linears)


def _assemble(
    artifact: Artifact, version: ResolvedVersion, backbone: DecoderBackbone, linears: Mapping[int, Linear]
) -> WritingAdapter:
    manifest, prompt = artifact.manifest, Prompt.of(artifact.manifest)
    lora = network = None
    nbytes = OVERHEAD_BYTES + 2 * sum(len(str(message)) for example in prompt.examples for message in example)
    if (low_rank := artifact.find(LowRankWeights)) is not None:
        _check_shapes(low_rank, backbone)
        # Beside a base in bf16, too: see `passes`.
        dtype = torch.float32 if backbone.device.type == "cpu" else backbone.dtype
        lora = gather_lora(low_rank, LORA_MODULES, device=backbone.device, dtype=dtype)
        nbytes += 0 if lora is None else lora.nbytes
    if (blocks := artifact.find(BlockWeights)) is not None:
        network = _own_network(blocks, backbone, linears)
        nbytes += sum(tensor.numel() for state in blocks.states.values() for tensor in state.values()) * (
            backbone.dtype.itemsize
        )
    return WritingAdapter(
        task=manifest.task,
        key=version.manifest_sha256,
        customer_id=version.customer_id,
        prompt=prompt,
        lora=lora,
        network=network,
        nbytes=nbytes,
    )


def _check_shapes(low_rank: LowRankWeights, backbone: DecoderBackbone) -> None:
    sizes = backbone.config
    for (block, name), (down_RI, up_OR) in low_rank.pairs.items():
        if not 0 <= block < sizes.blocks or name not in LORA_MODULES:
            raise ValueError(f"the base has no layer {block}.{name}")
        layer = backbone.network.blocks[block].get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{block}.{name} is not linear")
        if (down_RI.shape[1], up_OR.shape[0]) != (layer.in_features, layer.out_features):
            raise ValueError(f"the matrices of {block}.{name} have other sizes than the base's layer")


def _own_network(own: BlockWeights, backbone: DecoderBackbone, linears: Mapping[int, Linear]) -> OwnNetwork:
    """Return the base with blocks of a version's own; it shares everything else."""
    base = backbone.network
    network = copy.copy(base)
    network._modules = dict(base._modules)
    blocks = list(base.blocks)
    found: dict[int, Linear] = dict(linears)
    for index, state in own.states.items():
        block = copy.deepcopy(base.blocks[index])
        for name, tensor in state.items():
            _set(block, name, tensor.to(backbone.device, backbone.dtype))
        for layer in block.modules():
            if isinstance(layer, nn.Linear):
                found[id(layer)] = pack(layer)
        blocks[index] = block
    network.blocks = nn.ModuleList(blocks)
    return OwnNetwork(network, found)


def _set(block: nn.Module, name: str, tensor: Tensor) -> None:
    module, _, parameter = name.rpartition(".")
    block.get_parameter(name)  # an unknown name is an error
    setattr(block.get_submodule(module), parameter, nn.Parameter(tensor, requires_grad=False))
