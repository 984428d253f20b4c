"""Linear heads: logistic regression with an L2 penalty, fitted by L-BFGS on standardised, rotated features.

With penalty 1/C: minimise mean loss + |W|² / (2 C N). Features are standardised one by one and divided by √F, so that
a row has length 1 on average and one grid of C serves every width. The rotation into principal axes changes
nothing about the solution (the penalty is round), but makes the curvature diagonal, and for N < F leaves N columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.learning.heads import lbfgs
from models.learning.tasks.link_functions import LinkFunction

Floats = NDArray[np.float32]

LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]

_QUIETEST = 0.1  # of the median deviation
_MAX_ROTATED = 4_096  # A symmetric eigenproblem beyond this costs more than it saves.
_ROWS_AT_ONCE = 8_192
_SMALLEST_AXIS = 1e-7  # relative variance below which an axis is rounding noise in float32


@dataclass(frozen=True, slots=True)
class Head:
    """`logits_NK = features_NF @ weight_KF.T + bias_K`, on raw features: the standardisation is folded in."""

    weight_KF: Floats
    bias_K: Floats

    def logits(self, features_NF: Floats) -> Floats:
        """(N, K) float32."""
        return features_NF @ self.weight_KF.T + self.bias_K


@dataclass(frozen=True, slots=True)
class Design:
    """Features made ready for fitting: `rotated_NR`, and the way back to the raw ones."""

    rotated_NR: Tensor
    variance_R: Tensor  # mean square per axis
    axes_FR: Tensor | None  # None: not rotated
    mean_F: Tensor
    scale_F: Tensor

    def rows(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the rotated features of some rows."""
        return self.rotated_NR[torch.from_numpy(indices).to(self.rotated_NR.device)]

    def unfold(self, weights_KR1: Tensor) -> Head:
        """Weights on rotated features (bias last) → a head on raw features."""
        weight_KF, bias_K = weights_KR1[:, :-1].double(), weights_KR1[:, -1].double()
        if self.axes_FR is not None:
            weight_KF = weight_KF @ self.axes_FR.double().T
        weight_KF = weight_KF / self.scale_F
        bias_K = bias_K - weight_KF @ self.mean_F
        return Head(weight_KF.float().cpu().numpy(), bias_K.float().cpu().numpy())

    def fold(self, head: Head) -> Tensor:
        """Return the weights that `unfold` turns into this head: a start for a fit."""
        weight_KF = torch.from_numpy(head.weight_KF).to(self.mean_F)
        bias_K = torch.from_numpy(head.bias_K).to(self.mean_F) + weight_KF @ self.mean_F
        weight_KF = weight_KF * self.scale_F
        if self.axes_FR is not None:
            weight_KF = weight_KF @ self.axes_FR.double()
        return torch.cat([weight_KF, bias_K[:, None]], dim=1).float()


def regularization(inverse_penalty: float) -> float:
    """1 / C as people write it: 0.3 and not 0.30000000000000004."""
    return float(f"{1.0 / inverse_penalty:.9g}")


def prepare(features_NF: Floats, *, device: torch.device | None = None, owned: bool = False) -> Design:
    """Standardise and rotate. Exact: the heads that come out are those of the raw features.

    `owned`: nobody else needs the array, which is overwritten. With 80,000 words in memory every copy is 500 MB.
    """
    raw_NF = torch.from_numpy(np.ascontiguousarray(features_NF)).to(device or torch.device("cpu"))
    if not owned and raw_NF.device.type == "cpu":
        raw_NF = raw_NF.clone()
    rows, width = raw_NF.shape
    mean_F = raw_NF.mean(0, dtype=torch.float64)
    deviation_F = (raw_NF.double() - mean_F).square().mean(0).sqrt() if rows * width < 2**24 else raw_NF.std(0).double()
    # A feature that hardly varies carries nothing here; blown up to the size of the others it would be the loudest as
    # soon as it does vary: in bf16's rounding, or in a refined base (seen: a loss of 5,000 after one small step).
    scale_F = deviation_F.clamp(min=max(_QUIETEST * float(deviation_F.median()), 1e-9)) * width**0.5
    standard_NF = raw_NF.sub_(mean_F.float()).div_(scale_F.float())
    axes_FR = _axes(standard_NF) if min(rows, width) <= _MAX_ROTATED else None
    rotated_NR = standard_NF if axes_FR is None else _rotate(standard_NF, axes_FR)
    variance_R = torch.linalg.vector_norm(rotated_NR, dim=0).square() / rows
    return Design(rotated_NR, variance_R, axes_FR, mean_F, scale_F)


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a head: mean loss + |W|² / (2 C N)."""

    link: LinkFunction
    outputs: int
    inverse_penalty: float  # C


def fit(
    rotated_NR: Tensor,
    targets: Tensor,
    objective: Objective,
    *,
    variance_R: Tensor,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    check_stop: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the weights (K, R + 1), bias last, that minimise the objective. Raises what `check_stop` raises."""
    rows, axes = rotated_NR.shape
    link, outputs = objective.link, objective.outputs
    penalty = 1.0 / (objective.inverse_penalty * rows)
    curvature = link.curvature(outputs)
    bias_curvature = torch.ones(1, device=rotated_NR.device)
    inverse_curvature = 1.0 / torch.cat([curvature * variance_R + penalty, curvature * bias_curvature])

    def evaluate(weights_KR1: Tensor) -> tuple[float, Tensor]:
        weight_KR, bias_K = weights_KR1[:, :-1], weights_KR1[:, -1]
        loss, residual_NK = link.value_and_residual(torch.addmm(bias_K, rotated_NR, weight_KR.T), targets)
        residual_NK /= rows
        gradient = torch.empty_like(weights_KR1)
        torch.mm(residual_NK.T, rotated_NR, out=gradient[:, :-1])
        gradient[:, :-1] += penalty * weight_KR
        gradient[:, -1] = residual_NK.sum(0)
        return float(loss) / rows + 0.5 * penalty * float(weight_KR.square().sum()), gradient

    if start is None:
        start = torch.zeros(outputs, axes + 1, device=rotated_NR.device)
    return lbfgs.minimise(
        evaluate, start, inverse_curvature=inverse_curvature, tolerance=tolerance, check_stop=check_stop
    ).point


def fit_head(
    features_NF: Floats,
    targets: Tensor,
    link: LinkFunction,
    *,
    outputs: int,
    inverse_penalty: float,
    tolerance: float = 1e-4,
    owned: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> Head:
    """Prepare, fit and unfold in one go; `owned` as of `prepare`. Raises what `check_stop` raises."""
    design = prepare(features_NF, device=targets.device, owned=owned)
    return design.unfold(
        fit(
            design.rotated_NR,
            targets,
            Objective(link, outputs, inverse_penalty),
            variance_R=design.variance_R,
            tolerance=tolerance,
            check_stop=check_stop,
        )
    )


def _rotate(standard_NF: Tensor, axes_FR: Tensor) -> Tensor:
    """Return the rows along the axes, (N, R); of many rows in the memory of what is rotated."""
    rows, axes = len(standard_NF), axes_FR.shape[1]
    if rows <= _ROWS_AT_ONCE:
        return standard_NF @ axes_FR
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        standard_NF[part, :axes] = standard_NF[part] @ axes_FR
    return standard_NF[:, :axes]


def _axes(standard_NF: Tensor) -> Tensor | None:
    """Principal axes (F, R); None where no eigenvalues are found: the rotation saves time, a head does without it."""
    rows, width = standard_NF.shape
    wide = rows < width
    try:
        variance_R, vectors_RR = _eigenvalues(standard_NF @ standard_NF.T if wide else standard_NF.T @ standard_NF)
    except LinAlgError:
        return None
    kept_R = variance_R > _SMALLEST_AXIS * variance_R[-1]
    if wide:  # fewer rows than features: the axes lie in the span of the rows
        spanned_FR: Tensor = (standard_NF.T @ (vectors_RR[:, kept_R] / variance_R[kept_R].sqrt())).contiguous()
        return spanned_FR
    return vectors_RR[:, kept_R].contiguous()


def _eigenvalues(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues and their vectors: in float64 where float32 does not converge (many that are equal)."""
    try:
        values, vectors = torch.linalg.eigh(gram)
    except LinAlgError:
        values, vectors = torch.linalg.eigh(gram.double())
    return values.float(), vectors.float()
