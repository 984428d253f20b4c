"""The pictures and sounds that `graft predict` is asked about: paths, patterns, and `-` for stdin."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import BinaryIO

from deploy.cli.errors import CommandError
from models.datasets.media import encodings
from models.datasets.media.encodings import NOUNS, Medium
from models.datasets.problems import BadValue

STDIN = "-"
_FILES_PER_REQUEST = 64  # as many as a form may hold
_BYTES_PER_REQUEST = 6_000_000  # the server takes 8 MiB in one body if it is not told otherwise


@dataclass(frozen=True, slots=True)
class InputFile:
    """A picture or a sound: a file, or what came on stdin."""

    name: str  # as it was given
    path: Path | None
    data: bytes = b""

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size if self.path else len(self.data)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return self.path.open("rb") if self.path else io.BytesIO(self.data)


def find(names: Sequence[str], medium: Medium) -> list[InputFile]:
    """Return the files that are meant, in order. Raises CommandError for what is none, or none of the medium."""
    found = [file for name in names for file in _meant(name, medium)]
    for file in found:
        try:
            with file.open() as content:
                head = content.read(encodings.HEAD_BYTES)
        except OSError as error:
            raise CommandError(reason=f"{file.name} cannot be read: {error.strerror}.") from None
        try:
            encodings.require(head, medium, file.name)
        except BadValue as error:
            raise CommandError(reason=f"{file.name} {error.reason}. {error.mend}") from None
    return found


def batches(files: Sequence[InputFile]) -> Iterator[list[InputFile]]:
    """Yield the files of one request each, as many as a form takes, and one at least."""
    batch: list[InputFile] = []
    size = 0
    for file in files:
        if batch and (size + file.size > _BYTES_PER_REQUEST or len(batch) == _FILES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    yield batch


def is_file(text: str) -> bool:
    """Return whether a text is the name of a file."""
    try:
        return "\0" not in text and Path(text).is_file()
    except OSError:  # a text that is longer than names may be
        return False


def medium_of(name: str) -> Medium | None:
    """Return whether a file is a picture or a sound by its content."""
    with Path(name).open("rb") as content:
        encoding = encodings.recognise(content.read(encodings.HEAD_BYTES))
    return encoding.medium if encoding else None


def _meant(name: str, medium: Medium) -> list[InputFile]:
    if name == STDIN:
        if sys.stdin.isatty():
            raise CommandError(reason=f"Nothing to ask. This model reads {NOUNS[medium]}: give a file, or stdin.")
        return [InputFile("stdin", None, sys.stdin.buffer.read())]
    path = Path(name)
    if is_file(name):
        return [InputFile(name, path)]
    no_file = CommandError(reason=f"This model reads {NOUNS[medium]}, and there is no file {name[:200]}.")
    try:
        if path.is_dir():
            raise CommandError(reason=f"{name} is a folder. Name the files in it: '{path / '*'}'.")
        if not has_magic(name):
            raise no_file
        root = Path(path.anchor)
        paths = sorted(one for one in root.glob(str(path.relative_to(root))) if one.is_file())
    except OSError:  # a text that is longer than names may be
        raise no_file from None
    except ValueError as error:
        raise CommandError(reason=f"{name} is no pattern of files: {error}.") from None
    if not paths:
        raise CommandError(reason=f"No file matches {name}.")
    return [InputFile(str(one), one) for one in paths]
