"""A trained version applied to inputs without the predictor: for evaluation here, and as the reference in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.artifacts.folder import Artifact
from models.artifacts.parts import HeadWeights, LowRankWeights, NgramWeights
from models.backbones.backbone import Encoder
from models.backbones.loading import Backbone
from models.datasets.examples import Input
from models.learning import tasks
from models.learning.data.ragged import Ragged
from models.learning.evaluation import calibration
from models.learning.finetuning import lora
from models.learning.heads import ngram_head, ngrams
from models.learning.heads.linear import Floats
from models.learning.tasks.task import DecodeOptions


def predict(artifact: Artifact, backbone: Backbone, inputs: Sequence[Input], *, top_k: int = 1) -> list[dict[str, Any]]:
    """One prediction per input, as the API answers it."""
    task = tasks.encoder_task(tasks.find(artifact.manifest.task))
    backbone = task.view(backbone, inputs)
    manifest = artifact.manifest
    probabilities_NK = calibration.probabilities(logits(artifact, backbone, inputs), task.link, manifest.temperature)
    rows = backbone.tokenize(inputs)
    counts_N = backbone.units(rows)
    outputs = list(probabilities_NK) if counts_N is None else np.split(probabilities_NK, np.cumsum(counts_N)[:-1])
    options = DecodeOptions(manifest.labels, manifest.thresholds, top_k)
    return task.decode(outputs, inputs, dict(enumerate(rows)), options)


def logits(artifact: Artifact, backbone: Backbone, inputs: Sequence[Input]) -> Floats:
    """(N, K) float32, before the temperature; (W, K) where words are what is predicted."""
    own = _own_encoder(artifact, backbone)
    if own is None:
        features_NF = backbone.encode(inputs, artifact.manifest.features)
    else:
        features_NF = _encode(own, artifact, backbone, inputs)
    head, weights = artifact.require(HeadWeights), artifact.find(NgramWeights)
    logits_NK: Floats = features_NF @ head.weight_KF.numpy().T + head.bias_K.numpy()
    if weights is None:
        return logits_NK
    return logits_NK + ngram_head.load(weights).logits(ngrams.read([str(text) for text in inputs]))


def _own_encoder(artifact: Artifact, backbone: Backbone) -> Encoder | None:
    """The base with what the version changed in it, None if it changed nothing."""
    changed = {name.partition(".")[0] for name in artifact.tensors} - {"head", "lexical"}
    if not changed:
        return None
    encoder = backbone.trainable_copy().requires_grad_(False).eval()
    state = encoder.state_dict()
    for name, tensor in artifact.tensors.items():
        if name.startswith(("block.", "embeddings.")):
            state[name.replace("block.", "blocks.", 1)].copy_(tensor)
    if (low_rank := artifact.find(LowRankWeights)) is not None:
        lora.merge(encoder.blocks, low_rank)
    merged: Encoder = encoder.to(backbone.dtype)
    return merged


@torch.inference_mode()
def _encode(encoder: Encoder, artifact: Artifact, backbone: Backbone, inputs: Sequence[Input]) -> Floats:
    rows = backbone.tokenize(inputs)
    wanted = [backbone.parse_feature(name) for name in artifact.manifest.features]
    depths = {depth for _, depth in wanted}
    width = sum(backbone.feature_width(name) for name in artifact.manifest.features)
    counts_N = backbone.units(rows)
    layout = Ragged.of(np.empty(0), np.ones(len(rows), dtype=np.int64) if counts_N is None else counts_N)
    features_NF = np.empty((layout.starts[-1], width), dtype=np.float32)
    for indices in backbone.plan([len(row) for row in rows]):
        batch = backbone.collate([rows[index] for index in indices])
        _, tapped = encoder.run(batch, encoder.embed(batch), 0, max(depths), taps=depths)
        pooled = [encoder.pool(tapped[depth], batch, kind) for kind, depth in wanted]
        features_NF[layout.units(indices)] = torch.cat(pooled, dim=1).cpu().numpy()
    return features_NF
