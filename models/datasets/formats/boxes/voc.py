"""Pascal VOC XML: a file per picture, of its name, with an `object` per box: `name`, and `bndbox` in pixels.

Edges are taken as they are written: most tools count from 0, the original from 1, and a pixel does not matter. Read by
expat in bounded memory, without a document type: no entity is defined, nothing is fetched.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from models.datasets.formats.boxes import splits
from models.datasets.formats.boxes.annotation import Annotated, Annotation, DrawnBox
from models.datasets.formats.boxes.pairing import Pictures
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt

MOST_BYTES = 2 * 2**20
_HEAD_BYTES = 4 * 2**10
_DEEPEST = 32
_MOST_CHARS = 2_000  # of one element's text
_SAMPLED = 25
_LISTS_BYTES = 8 * 2**20
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_OBJECT = "annotation/object"
_WANTED = {
    "annotation/filename",
    "annotation/size/width",
    "annotation/size/height",
    f"{_OBJECT}/name",
    *(f"{_OBJECT}/bndbox/{edge}" for edge in _EDGES),
}
_MEND = "Export the annotation again, as Pascal VOC."


class VocSource:
    """The annotation files of an archive; those of pictures in its list for tests are left out."""

    kind = "Pascal VOC XML"

    def __init__(self, archive: Archive, files: list[Member]) -> None:
        self._archive = archive
        self._pictures = Pictures(archive.members)
        tests = _listed_tests(archive)
        listed = [member for member in files if _stem(member) in tests]
        rest = [member for member in files if _stem(member) not in tests]
        if rest:
            self.members, left_out = splits.without_tests(rest)
            self.left_out = [*listed, *left_out]
        else:
            self.members, self.left_out = splits.without_tests(files)

    @classmethod
    def find(cls, archive: Archive) -> VocSource | None:
        """Return the archive's XML files if some are annotations; None if none is."""
        files = [member for member in archive.members if member.suffix == ".xml"]
        sample = files[:: max(1, len(files) // _SAMPLED)]
        found = any(b"<annotation" in archive.head(member, _HEAD_BYTES) for member in sample)
        return cls(archive, files) if found else None

    def check(self, limits: Limits) -> None:
        """Refuse nothing: what is wrong with a file is said when it is read."""

    def annotations(self) -> Iterator[Annotated | Problem]:
        """Yield the pictures in the order of their files."""
        for member in self.members:
            reader = _Reader(member)
            try:
                found = reader.read(self._archive)
                picture = self._pictures.beside(member) or self._pictures.named(reader.filename, member)
            except BadValue as error:
                yield Problem(None, None, None, error.reason, error.mend, member.name)
                continue
            yield Annotated(picture, found)

    def remarks(self) -> list[dict[str, Any]]:
        """Return no warnings: everything that is an object is read."""
        return []


class _Reader:
    """Reads one file: keeps the texts that are wanted, by their path from the root."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._path: list[str] = []
        self._texts: dict[str, str] = {}
        self._boxes: list[DrawnBox] = []
        self._line = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = _refuse_document_type

    @property
    def filename(self) -> str:
        """The picture's name as the file states it; empty if it does not."""
        return self._texts.get("annotation/filename", "").strip()

    def read(self, archive: Archive) -> Annotation:
        """Return the annotation. Raises BadValue for what is not one."""
        if self._member.info.file_size > MOST_BYTES:
            raise BadValue(f"has {self._member.info.file_size} bytes; the limit is {MOST_BYTES}", _MEND)
        try:
            for chunk in archive.chunks(self._member):
                self._parser.Parse(chunk, False)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            found = expat.ErrorString(error.code)
            raise BadValue(f"is not valid XML (line {error.lineno}: {found})", _MEND) from None
        except BadValue:
            raise
        except (ValueError, LookupError):  # an encoding that nobody knows
            raise BadValue("is not valid XML (its encoding is not known)", "Save it as UTF-8.") from None
        size = tuple(self._texts.get(f"annotation/size/{side}") for side in ("width", "height"))
        return Annotation(self._member.name, tuple(self._boxes), (size[0], size[1]))

    def _start(self, name: str, _: Any) -> None:
        if not self._path and name != "annotation":
            reason = f"begins with <{excerpt(name, 40)}>, where <annotation> is expected"
            raise BadValue(reason, "Export it as Pascal VOC, or leave it out of the archive.")
        if len(self._path) >= _DEEPEST:
            raise BadValue(f"has more than {_DEEPEST} elements inside each other", _MEND)
        self._path.append(name)
        if "/".join(self._path) == _OBJECT:
            self._line = self._parser.CurrentLineNumber
            self._texts = {path: text for path, text in self._texts.items() if not path.startswith(_OBJECT)}

    def _text(self, text: str) -> None:
        path = "/".join(self._path)
        if path in _WANTED:
            self._texts[path] = (self._texts.get(path, "") + text)[:_MOST_CHARS]

    def _end(self, _: str) -> None:
        if "/".join(self._path) == _OBJECT:
            edges = [self._texts.get(f"{_OBJECT}/bndbox/{edge}") for edge in _EDGES]
            label, place = self._texts.get(f"{_OBJECT}/name"), f"object {len(self._boxes) + 1}"
            self._boxes.append(DrawnBox(label, (edges[0], edges[1], edges[2], edges[3]), place, self._line))
        self._path.pop()


def _refuse_document_type(*_: Any) -> None:
    raise BadValue("declares a document type or entities (<!DOCTYPE …>)", "Remove it: annotations need none.")


def _listed_tests(archive: Archive) -> set[str]:
    """Return the names in `ImageSets/Main/test.txt`, where there is a list to learn from beside it."""
    lists = {
        posixpath.basename(member.name): member
        for member in archive.members
        if member.folders[-2:] == ("ImageSets", "Main") and member.info.file_size <= _LISTS_BYTES
    }
    if "test.txt" not in lists or not {"train.txt", "trainval.txt"} & set(lists):
        return set()
    try:
        return set(archive.read(lists["test.txt"]).decode(errors="replace").split())
    except BadValue:
        return set()


def _stem(member: Member) -> str:
    return posixpath.splitext(posixpath.basename(member.name))[0]
