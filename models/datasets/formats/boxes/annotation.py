"""What an annotation file says of one picture, before anything of it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from models.datasets.formats.zip_members import Member
from models.datasets.limits import Limits
from models.datasets.problems import Problem


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """One box as its file has it: nothing is checked yet.

    `edges`: left, top, right, bottom; `place` is where the box is in its file, in words; `line`: its line in a text
    file.
    """

    label: Any
    edges: tuple[Any, Any, Any, Any]
    place: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """The boxes of one picture; none: it shows nothing that is to be found.

    `member`: the file in the archive that says so; `size`: the picture's width and height as that file has them, None
    where it has none; `relative`: edges are shares of the picture's width and height instead of pixels.
    """

    member: str
    boxes: tuple[DrawnBox, ...]
    size: tuple[Any, Any] | None = None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Annotated:
    """A picture in the archive, and what is drawn into it."""

    picture: Member
    annotation: Annotation


class BoxSource(Protocol):
    """The annotation files of one archive, all of one kind."""

    @property
    def kind(self) -> str:
        """What the files are, in words: `COCO JSON`."""

    @property
    def members(self) -> list[Member]:
        """The files that are read."""

    @property
    def left_out(self) -> list[Member]:
        """Files of a split for tests, which are not read beside those to learn from."""

    def check(self, limits: Limits) -> None:
        """Refuse a file as a whole, with an InvalidDataset, before an entry is read."""

    def annotations(self) -> Iterator[Annotated | Problem]:
        """Yield the pictures in the order of the files, in bounded memory, or what is wrong with an entry."""

    def remarks(self) -> list[dict[str, Any]]:
        """Return warnings of what the files hold and is not read; after `annotations` was read to its end."""
