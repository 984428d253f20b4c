"""A published version applied to rows without the predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifacts.folder import Artifact
from models.artifacts.parts import HeadWeights, LowRankWeights, NgramWeights
from models.backbones.backbone import Encoder
from models.backbones.loading import Backbone
from models.datasets.examples import Input
from models.learning.data.ragged import Ragged
from models.learning.finetuning import lora
from models.learning.heads import ngram_head, ngrams
from models.learning.heads.linear import Floats

_NEVER = -100.0  # a logit beside 0


def logits(artifact: Artifact, backbone: Backbone, rows: Sequence[Any], inputs: Sequence[Input]) -> Floats:
    """Return (N, K) float32 logits before the temperature; (W, K) where words are what is predicted.

    `rows` are the inputs as the base's view of the task has tokenised them.
    """
    own = _own_encoder(artifact, backbone)
    if own is None:
        features_NF = backbone.encode_tokens(rows, artifact.manifest.features)
    else:
        features_NF = _encode(own, artifact, backbone, rows)
    return head_logits(artifact, features_NF, inputs)


def head_logits(artifact: Artifact, features_NF: Floats, inputs: Sequence[Input]) -> Floats:
    """Return the logits of the version's heads on its features of the inputs."""
    head, weights = artifact.require(HeadWeights), artifact.find(NgramWeights)
    logits_NK: Floats = features_NF @ head.weight_KF.numpy().T + head.bias_K.numpy()
    if weights is None:
        return logits_NK
    most = ngrams.most_characters(artifact.manifest.windowing)
    return logits_NK + ngram_head.load(weights).logits(ngrams.read([str(text) for text in inputs], most=most))


def spread_words(logits_UK: Floats, counts_N: NDArray[np.int64], targets: Ragged) -> Floats:
    """Return logits of all words of some rows from those of each row's first `counts_N`: the others carry no span."""
    spread_UK = np.full((len(targets.values), logits_UK.shape[1]), _NEVER, dtype=np.float32)
    spread_UK[:, 0] = 0.0
    within = np.arange(len(logits_UK)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
    spread_UK[np.repeat(targets.starts[:-1], counts_N) + within] = logits_UK
    return spread_UK


def changes_base(artifact: Artifact) -> bool:
    """Return whether the version has weights of its own in the base."""
    return any(not isinstance(part, HeadWeights | NgramWeights) for part in artifact.parts)


def _own_encoder(artifact: Artifact, backbone: Backbone) -> Encoder | None:
    """Return the base with what the version changed in it, None if it changed nothing."""
    if not changes_base(artifact):
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
def _encode(encoder: Encoder, artifact: Artifact, backbone: Backbone, rows: Sequence[Any]) -> Floats:
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
