"""L-BFGS with a diagonal preconditioner, for smooth convex functions.

`torch.optim.LBFGS` starts every direction from a multiple of the identity. On rotated features the curvature is
known along each axis, and starting from that takes a third to a tenth of the passes over the data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_ARMIJO = 1e-4
_MAX_BACKTRACKS = 20


@dataclass(frozen=True, slots=True)
class Minimum:
    """The minimum that was found."""

    point: Tensor
    value: float
    evaluations: int
    converged: bool


def minimise(
    evaluate: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    *,
    inverse_curvature: Tensor,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    history: int = 10,
    check_stop: Callable[[], None] = lambda: None,
) -> Minimum:
    """Minimise `evaluate` (value, gradient) from `start`.

    `inverse_curvature` broadcasts over the point: about 1 / second derivative per coordinate. Ends when the
    preconditioned gradient, an estimate of twice the distance in value, is below `tolerance` times the value.
    `check_stop` is called at every iteration, and raises to end it.
    """
    point = start
    value, gradient = evaluate(point)
    evaluations = 1
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=history)
    for _ in range(max_iterations):
        check_stop()
        direction = _direction(gradient, pairs, inverse_curvature)
        slope = float((gradient * direction).sum())
        if slope >= 0:  # rounding: fall back to the preconditioned gradient
            pairs.clear()
            direction = -inverse_curvature * gradient
            slope = float((gradient * direction).sum())
        if -slope <= tolerance * max(abs(value), 1e-6):
            return Minimum(point, value, evaluations, True)
        step = 1.0
        for _ in range(_MAX_BACKTRACKS):
            candidate = point + step * direction
            new_value, new_gradient = evaluate(candidate)
            evaluations += 1
            if new_value <= value + _ARMIJO * step * slope:
                break
            # The parabola through what is known, kept away from both ends.
            curve = 2 * (new_value - value - step * slope)
            step *= min(max(-slope * step / curve if curve > 0 else 0.5, 0.1), 0.5)
        else:
            return Minimum(point, value, evaluations, False)  # float32 has no better point along this line
        moved, turned = candidate - point, new_gradient - gradient
        curvature = float((moved * turned).sum())
        if curvature > 0:
            pairs.append((moved, turned, 1.0 / curvature))
        point, value, gradient = candidate, new_value, new_gradient
    return Minimum(point, value, evaluations, False)


def _direction(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, float]], inverse_curvature: Tensor) -> Tensor:
    """The two-loop recursion (Nocedal and Wright, algorithm 7.4) from a scaled diagonal."""
    direction = gradient.clone()
    weights = []
    for moved, turned, inverse in reversed(pairs):
        weight = inverse * float((moved * direction).sum())
        direction -= weight * turned
        weights.append(weight)
    scale = 1.0
    if pairs:
        moved, turned, inverse = pairs[-1]
        scale = 1.0 / (inverse * float((turned * inverse_curvature * turned).sum()))
    direction = scale * inverse_curvature * direction
    for (moved, turned, inverse), weight in zip(pairs, reversed(weights), strict=True):
        direction += moved * (weight - inverse * float((turned * direction).sum()))
    return torch.neg(direction)
