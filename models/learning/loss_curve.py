"""Loss curves of long runs, thinned: few points in a report, more in the file that a job leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.learning.contract.events import CurvePoint

_IN_REPORT = 200


def thin(points: Sequence[CurvePoint], most: int) -> tuple[CurvePoint, ...]:
    """Return about `most` points at even distances, the first and the last among them, and all with a held-out loss."""
    every = max(1, -(-len(points) // most))
    last = len(points) - 1
    return tuple(
        point for at, point in enumerate(points) if at % every == 0 or at == last or point.valid_loss is not None
    )


def describe(points: Sequence[CurvePoint]) -> list[dict[str, Any]]:
    """Return the report's `loss_curve`."""
    return [
        {"step": point.step, "train_loss": point.train_loss}
        | ({} if point.valid_loss is None else {"validation_loss": point.valid_loss})
        for point in thin(points, _IN_REPORT)
    ]
