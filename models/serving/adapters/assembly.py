"""Assembly of an adapter from an artifact's parts, in the precision and on the device of its base."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.artifacts.folder import Artifact
from models.artifacts.parts import BlockWeights, EmbeddingWeights, HeadWeights, LowRankWeights, NgramWeights
from models.backbones.backbone import Backbone
from models.backbones.packed import PackedBlock, PackedEncoder
from models.backbones.pairs import feature_width
from models.learning import tasks
from models.learning.finetuning.lora import merge
from models.learning.heads import ngram_head
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import LORA_MODULES, OVERHEAD_BYTES, Adapter
from models.serving.adapters.fitting import fitting
from models.serving.adapters.low_rank import gather_lora
from models.serving.encoders.input_modes import input_mode_of
from models.serving.encoders.passes import packed_of


def assemble(artifact: Artifact, version: ResolvedVersion, backbone: Backbone) -> Adapter:
    """Return the adapter. Raises ArtifactBroken for parts that do not fit this base, and DeviceMemoryFull."""
    with fitting(artifact, version, backbone.revision):
        assembled = _assemble(artifact, backbone)
        return replace(assembled, customer_id=version.customer_id, key=version.manifest_sha256)


def _assemble(artifact: Artifact, backbone: Backbone) -> Adapter:
    manifest, head, encoder = artifact.manifest, artifact.require(HeadWeights), packed_of(backbone)
    task, labels, features = manifest.task, manifest.labels, manifest.features
    # Logits divided by the temperature, for free: divide the head instead.
    temperature = manifest.temperature
    weight_KF = (head.weight_KF.float() / temperature).contiguous().to(backbone.device)
    bias_K = (head.bias_K.float() / temperature).contiguous().to(backbone.device)
    if weight_KF.shape != (bias_K.shape[0], sum(feature_width(backbone, name) for name in features)):
        raise ValueError(f"the head is {tuple(weight_KF.shape)} for the features {', '.join(features)}")
    answered = tasks.encoder_task(tasks.find(task))
    if len(bias_K) != answered.outputs(labels):
        raise ValueError(f"the head has {len(bias_K)} outputs for {len(labels)} labels")
    part = None
    if (saved := artifact.find(NgramWeights)) is not None:
        part = ngram_head.load(saved)
        if part.weight_VK.shape[1] != len(bias_K):
            raise ValueError("the n-gram head does not have the outputs of the head")
        part = part.scaled(1.0 / temperature)
    network = lora = blocks = own = None
    if encoder is None:
        network = _own_network(artifact, backbone)
    else:
        low_rank = artifact.find(LowRankWeights)
        if low_rank is not None:
            lora = gather_lora(low_rank, LORA_MODULES, device=encoder.device, dtype=encoder.dtype)
        own = _own_encoder(artifact, backbone, encoder)
        blocks = _own_blocks(artifact, backbone, encoder) if own is None else None  # a whole base has its blocks in it
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
        link=answered.link,
        features=features,
        weight_KF=weight_KF,
        input_mode=input_mode_of(features) if part is None else "ngrams",
        windowing=manifest.windowing,
        ngram_head=part,
        bias_K=bias_K,
        thresholds=manifest.thresholds or (),
        scale=manifest.scale,
        lora=lora,
        blocks=blocks,
        encoder=own,
        network=network,
        nbytes=OVERHEAD_BYTES + sum(parts),
    )


def _own_blocks(artifact: Artifact, backbone: Backbone, encoder: PackedEncoder) -> dict[int, PackedBlock] | None:
    """Return the customer's top blocks; None if it has none."""
    if (own := artifact.find(BlockWeights)) is None:
        return None
    return {
        index: encoder.prepare({name: tensor.to(backbone.device) for name, tensor in state.items()})
        for index, state in own.states.items()
    }


def _own_encoder(artifact: Artifact, backbone: Backbone, encoder: PackedEncoder) -> PackedEncoder | None:
    """Assemble a whole base of the customer's own: all blocks and the embeddings."""
    if (embeddings := artifact.find(EmbeddingWeights)) is None:
        return None
    blocks = artifact.require(BlockWeights)
    network = backbone.trainable_copy()
    network.embeddings.load_state_dict(embeddings.state, strict=False)
    for index, block in enumerate(network.blocks):
        block.load_state_dict(blocks.states.get(index, {}))
    return PackedEncoder(network.embeddings, network.blocks, dtype=encoder.dtype, separator=encoder.separator)


def _own_network(artifact: Artifact, backbone: Backbone) -> Any:
    """Return the base with everything that the version changed merged in; None if it changed nothing."""
    blocks, embeddings = artifact.find(BlockWeights), artifact.find(EmbeddingWeights)
    low_rank = artifact.find(LowRankWeights)
    if blocks is None and embeddings is None and low_rank is None:
        return None
    network = backbone.trainable_copy().requires_grad_(False).eval()
    state = network.state_dict()
    for index, own in blocks.states.items() if blocks else ():
        for name, tensor in own.items():
            state[f"blocks.{index}.{name}"].copy_(tensor)
    for name, tensor in embeddings.state.items() if embeddings else ():
        state[f"embeddings.{name}"].copy_(tensor)
    if low_rank is not None:
        merge(network.blocks, low_rank)
    return network.to(backbone.dtype)
