"""image-classification and audio-classification: a picture or a sound, and one label.

The cell of a picture or a sound is what the file's format makes of it: a member of an archive, or in Parquet the
encoded bytes, alone or as {"bytes": …, "path": …}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from models.datasets.errors import TooMuchMedia
from models.datasets.examples import Example, Media
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.media.encodings import Medium
from models.datasets.media.inputs import verify
from models.datasets.problems import BadValue, Problem, excerpt
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.task import Task

NO_MEDIA = Media("", b"")
_NOUNS: dict[Medium, str] = {"image": "picture", "audio": "sound"}


class MediaStatistics(ClassStatistics):
    """Counts rows per label, and how much there is to decode."""

    def __init__(
        self,
        limits: Limits,
        medium: Medium,
        *,
        labels_of: Callable[[Example], tuple[str, ...]] = lambda example: (str(example.target),),
        column: str = "label",
        minimum: int = 2,
    ) -> None:
        super().__init__(limits, labels_of, column=column, minimum=minimum)
        self._extent = 0
        self._most = limits.max_total_pixels if medium == "image" else limits.max_total_samples
        self._unit = "pixels" if medium == "image" else "samples"

    def add(self, example: Example) -> None:
        """Count one example; raises TooMuchMedia beyond the limit of all together."""
        super().add(example)
        if isinstance(example.input, Media):
            self._extent += example.input.extent
        if self._extent > self._most:
            raise TooMuchMedia(rows=self.rows, unit=self._unit, limit=self._most)


def _task(medium: Medium) -> Task:
    def parse(row: Row, limits: Limits) -> Example | list[Problem]:
        taken = cells.Cells(row, limits)
        media = taken.take(medium, take_media(medium, row.number), NO_MEDIA)
        label = taken.take("label", cells.label, "")
        return taken.problems or Example(media, label, row.number)

    return Task(
        f"{medium}-classification",
        medium,
        "encoder",
        ((medium, "label"),),
        parse,
        lambda limits: MediaStatistics(limits, medium),
        verify=verify_media(medium),
        noun=_NOUNS[medium],
    )


def verify_media(medium: Medium) -> Callable[[Example, Limits], Example | Problem]:
    """Return the `verify` of a task whose inputs are pictures or sounds: each is decoded on trial."""

    def verify_example(example: Example, limits: Limits) -> Example | Problem:
        assert isinstance(example.input, Media)  # noqa: S101  (what parse() makes)
        try:
            return replace(example, input=verify(example.input, medium, limits))
        except BadValue as error:
            return Problem(example.row, None, medium, error.reason, error.mend, example.input.name)

    return verify_example


def take_media(medium: Medium, number: int) -> Callable[[Any, Limits], Media]:
    """Return the parser of a cell with a picture or a sound; `number` is its row's, for those without a name."""
    return partial(_media, medium, number)


def _media(medium: Medium, number: int, value: Any, limits: Limits) -> Media:  # noqa: ARG001  (a cell's signature)
    name = f"row {number}"
    if isinstance(value, dict):
        path = value.get("path")
        name = PurePosixPath(path).name or name if isinstance(path, str) else name
        if "array" in value:
            raise BadValue("holds decoded numbers", "Write the encoded file's bytes, as they are on disk.")
        if value.get("bytes") is None and path:
            reason = f"names the file '{excerpt(path)}' instead of holding it"
            raise BadValue(reason, "Write the file's bytes into the column, or upload a zip.")
        value = value.get("bytes")
    if value is None:
        raise BadValue("is empty", f"Write the {_NOUNS[medium]}'s bytes or remove the row.")
    if isinstance(value, bytes):
        return Media(name, value)
    if not isinstance(value, Media):
        reason = f"is {cells.kind(value)} where the bytes of a {_NOUNS[medium]} are expected: {excerpt(value)}"
        raise BadValue(reason, f"Upload the {_NOUNS[medium]}s in a zip, or their bytes in Parquet.")
    return value


IMAGE_CLASSIFICATION = _task("image")
AUDIO_CLASSIFICATION = _task("audio")
