"""Tasks that answer for whole rows, not for their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.backbones.backbone import Backbone
from models.datasets.examples import Input
from models.datasets.windowing import Windowing
from models.learning.tasks import pairs
from models.learning.tasks.task import Targets


class WholeRows:
    """How such a task reads its rows: one vector each."""

    __slots__ = ()

    def read(
        self,
        windowing: Windowing,
        inputs: Sequence[Input],  # noqa: ARG002
        targets: Targets,  # noqa: ARG002
        *,
        check_stop: Callable[[], None],  # noqa: ARG002
    ) -> Windowing:
        """Return the usual way: whole texts have no words."""
        return windowing

    def view(self, backbone: Backbone, inputs: Sequence[Input]) -> Backbone:
        """Return the base with one vector per row; a pair's is that of two compared texts. Raises UnevenPairs."""
        return pairs.view(backbone, inputs)
