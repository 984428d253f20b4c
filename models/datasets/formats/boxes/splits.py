"""Splits in one archive: files to learn from, to validate and to test with, told apart by folders and names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from models.datasets.formats.zip_members import Member

Split = Literal["train", "valid", "test"]
_SPLIT = re.compile(r"(?:^|[_\-. ])(?:(train)(?:ing|val)?|(val)(?:id|idation)?|(test)(?:ing)?)\d*(?:$|[_\-. ])")
_NAMES: tuple[Split, ...] = ("train", "valid", "test")


def split_of(member: Member, *, by_name: bool = False) -> Split | None:
    """Return the split that the folders of a member name, the innermost first; `by_name`: its own name, too."""
    places = [*member.folders, *([PurePosixPath(member.name).stem] if by_name else [])]
    for place in reversed(places):
        found = _SPLIT.search(place.lower())
        if found is not None:
            return _NAMES[next(at for at, group in enumerate(found.groups()) if group)]
    return None


def without_tests(members: Iterable[Member], *, by_name: bool = False) -> tuple[list[Member], list[Member]]:
    """Return the members to learn from, and those of a split for tests; where all are for tests, they are meant."""
    kept: list[Member] = []
    tests: list[Member] = []
    for member in members:
        (tests if split_of(member, by_name=by_name) == "test" else kept).append(member)
    return (kept, tests) if kept else (tests, [])
