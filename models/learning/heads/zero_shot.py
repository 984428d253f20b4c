"""The base as it is, nothing trained: the baseline that every report states.

Two methods, both linear heads on the last layer's mean: the distance to each label's name, and to each class's mean.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from models.backbones.backbone import TokenizedInput
from models.datasets.examples import TextPair
from models.learning.data import features
from models.learning.data.folds import splits
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.linear import Floats, Head
from models.learning.tasks.link_functions import IDENTITY, SOFTMAX, LinkFunction
from models.learning.tasks.task import Targets

_SHARPNESS = 20.0  # Cosines differ by a few hundredths; a temperature is fitted on top of this.


def class_mean_method(link: LinkFunction) -> str:
    """Return the name of `class_mean_head` in a report."""
    return "one_direction" if link is IDENTITY else "class_means"


def readable(label: str) -> str:
    """Return a label as a text: `cash_withdrawal_charge` is read as "cash withdrawal charge"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return re.sub(r"[_\-./:]+", " ", spaced).strip() or label


def label_name_tokens(run: EncodedRun) -> list[TokenizedInput]:
    """Return the labels' names as the base reads them, in the order of the labels."""
    return run.backbone.tokenize([readable(label) for label in run.labels])


def label_name_rows(run: EncodedRun) -> DesignMatrix | None:
    """Return each label's name as a row of its class, with plain features; None where names are not like rows."""
    targets = run.task.label_name_targets(run.labels)
    paired = isinstance(run.training.corpus.inputs[0], TextPair)  # a name is no pair
    if targets is None or run.backbone.entry.modality != "text" or paired:
        return None
    names = list(run.training.features)
    encoded_KF = run.backbone.encode_tokens(label_name_tokens(run), names)
    return DesignMatrix(features.split(encoded_KF, names, run.backbone), run.task.encode(targets, run.labels))


def label_name_head(name_features_KF: Floats, last_NF: Floats, link: LinkFunction) -> Head:
    """Return a head from the labels' names, encoded like texts; `last_NF` are the rows' features, without targets."""
    return _cosine_head(name_features_KF, last_NF, link, None)


def class_mean_head(last_NF: Floats, targets: Targets, link: LinkFunction, *, outputs: int) -> Head:
    """Return a head from the mean of each class's rows; for values, along the direction in which features vary."""
    if link is IDENTITY:
        return _direction_head(last_NF, targets)
    members_NK = _members(targets, outputs)
    counts_K = np.maximum(members_NK.sum(0), 1.0)
    unit_NF = last_NF / np.maximum(_norms(last_NF), 1e-12)  # a word of control characters alone has no token
    return _cosine_head((members_NK.T @ unit_NF) / counts_K[:, None], last_NF, link, members_NK)


def class_mean_logits(
    last_NF: Floats, targets: Targets, link: LinkFunction, fold_N: NDArray[np.int64], *, outputs: int
) -> Floats:
    """Return out-of-fold logits of `class_mean_head`, (N, K); features, targets and folds of rows, or of units."""
    logits_NK = np.empty((len(last_NF), outputs), dtype=np.float32)
    for train, held in splits(fold_N):
        head = class_mean_head(last_NF[train], targets[train], link, outputs=outputs)
        logits_NK[held] = head.logits(last_NF[held])
    return logits_NK


def _cosine_head(prototypes_KF: Floats, last_NF: Floats, link: LinkFunction, members_NK: Floats | None) -> Head:
    # Dividing a row by its own length is not linear and does not change which prototype is nearest: the mean does.
    length = float(_norms(last_NF).mean())
    weight_KF = (_SHARPNESS / length) * prototypes_KF / np.maximum(_norms(prototypes_KF), 1e-12)
    bias_K = np.zeros(len(prototypes_KF), dtype=np.float32)
    if link is not SOFTMAX:
        # Each label decides alone and needs a border: half-way between its rows and the others, else an outlier's.
        scores_NK = last_NF @ weight_KF.T
        mean_K = scores_NK.mean(0)
        if members_NK is None:
            bias_K = -(mean_K + 1.5 * scores_NK.std(0))
        else:
            inside_K = (scores_NK * members_NK).sum(0) / np.maximum(members_NK.sum(0), 1.0)
            bias_K = -(inside_K + mean_K) / 2
    return Head(weight_KF.astype(np.float32), bias_K.astype(np.float32))


def _direction_head(last_NF: Floats, targets: Targets) -> Head:
    """Return the first component of partial least squares: one direction, no inverse, hardly anything to overfit."""
    mean_F, mean_K = last_NF.mean(0), targets.mean(0)
    direction_FK = (last_NF - mean_F).T @ (targets - mean_K)
    along_NK = (last_NF - mean_F) @ direction_FK
    slope_K = (along_NK * (targets - mean_K)).sum(0) / np.maximum(np.square(along_NK).sum(0), 1e-12)
    weight_KF = (direction_FK * slope_K).T.astype(np.float32)
    return Head(weight_KF, (mean_K - weight_KF @ mean_F).astype(np.float32))


def _members(targets: Targets, outputs: int) -> Floats:
    if targets.ndim == 2:
        members: Floats = targets
        return members
    members_NK = np.zeros((len(targets), outputs), dtype=np.float32)
    members_NK[np.arange(len(targets)), targets] = 1.0
    return members_NK


def _norms(vectors_NF: Floats) -> Floats:
    norms: Floats = np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    return norms
