"""The pictures of an archive, and which of them an annotation means: by the name that it states, or by its own."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import PurePosixPath

from models.datasets.formats.zip_members import Member
from models.datasets.media.encodings import medium_by_suffix
from models.datasets.problems import BadValue, excerpt

# Folders that say what kind of file lies in them, and not which picture it is.
_KINDS = {"images", "labels", "annotations", "jpegimages", "imgs", "img", "xml", "xmls", "txt", "bboxes", "boxes"}
_COMPARED = 50  # pictures of one name in different folders that are compared; all of them would be quadratic
_MEND = "Write the name as it is in the archive, or add the picture."


class Pictures:
    """Finds pictures by their names."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = [member for member in members if medium_by_suffix(member.name) == "image"]
        self._by_name = {member.name: member for member in self.members}
        self._by_last: dict[str, list[Member]] = {}
        self._by_stem: dict[str, list[Member]] = {}
        for member in self.members:
            last = posixpath.basename(member.name).casefold()
            self._by_last.setdefault(last, []).append(member)
            self._by_stem.setdefault(posixpath.splitext(last)[0], []).append(member)

    def named(self, value: object, annotation: Member) -> Member:
        """Return the picture that an entry of an annotation file names. Raises BadValue.

        The name may be relative to the file, to the archive, or to any folder; of several pictures called alike the
        one is meant whose folders are those of the name, or else of the file.
        """
        if not isinstance(value, str) or not value.strip():
            raise BadValue("names no picture", "Write the name that the picture has in the archive.")
        name = posixpath.normpath(value.strip().replace("\\", "/"))
        beside = posixpath.normpath(posixpath.join(*annotation.folders, name))
        for candidate in (beside, name):
            if candidate in self._by_name:
                return self._by_name[candidate]
        last = posixpath.basename(name).casefold()
        alike = self._by_last.get(last, [])
        folders = (*annotation.folders, *PurePosixPath(name).parts[:-1])
        if (found := _nearest(alike, folders)) is not None:
            return found
        if alike:
            raise _ambiguous(f"names '{excerpt(value)}'", alike)
        meant = self._by_stem.get(posixpath.splitext(last)[0], [])
        hint = f" Did you mean '{excerpt(meant[0].name)}'?" if meant else ""
        raise BadValue(f"names '{excerpt(value)}', which is not in the archive", _MEND + hint)

    def has_beside(self, annotation: Member) -> bool:
        """Return whether a picture, or several, are called like an annotation file."""
        return _stem(annotation) in self._by_stem

    def beside(self, annotation: Member) -> Member | None:
        """Return the picture that is called like an annotation file; None if there is none. Raises BadValue."""
        alike = self._by_stem.get(_stem(annotation), [])
        found = _nearest(alike, annotation.folders)
        if alike and found is None:
            raise _ambiguous("has the name", alike)
        return found


def _nearest(alike: list[Member], folders: tuple[str, ...]) -> Member | None:
    """Return the only picture, or the only one that shares most folders; None if there are several."""
    if len(alike) <= 1:
        return alike[0] if alike else None
    if len(alike) > _COMPARED:
        return None
    wanted = _without_kinds(folders)
    shared = [_alikeness(_without_kinds(member.folders), wanted) for member in alike]
    best = max(shared)
    return alike[shared.index(best)] if shared.count(best) == 1 else None


def _alikeness(folders: set[str], wanted: set[str]) -> tuple[int, int]:
    """Return how many folders two paths share, and of paths that share as many prefer the shorter."""
    return len(wanted & folders), -len(folders)


def _without_kinds(folders: tuple[str, ...]) -> set[str]:
    return {folder.casefold() for folder in folders} - _KINDS


def _ambiguous(what: str, alike: list[Member]) -> BadValue:
    names = " and ".join(f"'{excerpt(member.name, 40)}'" for member in alike[:2])
    mend = "Write the name with its folders, or put annotations into folders that are called like the pictures'."
    return BadValue(f"{what}, and {len(alike)} pictures are called so: {names}", mend)


def _stem(member: Member) -> str:
    return posixpath.splitext(posixpath.basename(member.name))[0].casefold()
