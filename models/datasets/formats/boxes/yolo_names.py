"""The names of YOLO's classes: `names` in a YAML file (a list, or an object by number), or a name a line."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any

import yaml

from models.datasets.errors import SeveralClassLists
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.problems import BadValue, excerpt

MOST_BYTES = 256 * 2**10
_MOST_YAML_BYTES = 64 * 2**10
_DEEPEST = 8  # the library takes minutes for brackets that are nested twenty thousand deep
_LISTS = {"classes.txt", "obj.names", "labels.txt", "classes.names", "_darknet.labels"}
_MOST_KEYPOINTS = 3_000
_MEND = 'Write names as a list, such as ["cat", "dog"], or one a line into classes.txt.'


def is_list(member: Member) -> bool:
    """Return whether a member is a list of names by its own name."""
    return posixpath.basename(member.name).lower() in _LISTS or member.suffix == ".names"


@dataclass(frozen=True, slots=True)
class Classes:
    """What an archive says of its classes."""

    names: dict[int, str] = field(default_factory=dict)  # by number; empty if it names none
    source: str = ""  # the file that the names come from
    keypoint_values: int = 0  # numbers of keypoints behind every box, as `kpt_shape` has it; 0: there are none


def read(archive: Archive) -> Classes:
    """Return what an archive says of its classes.

    Raises BadValue for a file that cannot be read, and SeveralClassLists for files that disagree.
    """
    found: dict[str, dict[int, str]] = {}
    keypoint_values = 0
    for member in sorted(archive.members, key=lambda member: len(member.folders)):
        if is_list(member):
            lines = _text(archive, member).splitlines()
            found[member.name] = {at: line.strip() for at, line in enumerate(lines) if line.strip()}
        elif member.suffix in (".yaml", ".yml"):
            content = _yaml(archive, member)
            keypoint_values = keypoint_values or _keypoint_values(content, member)
            if (names := _names(content, member)) is not None:
                found[member.name] = names
    if not found:
        return Classes(keypoint_values=keypoint_values)
    first, *others = found
    different = next((other for other in others if found[other] != found[first]), None)
    if different is not None:
        raise SeveralClassLists(first=excerpt(first, 80), second=excerpt(different, 80))
    return Classes(found[first], first, keypoint_values)


def _yaml(archive: Archive, member: Member) -> dict[str, Any]:
    """Return the object of a YAML file; an empty one if it holds something else."""
    text = _text(archive, member, _MOST_YAML_BYTES)
    try:
        _check_events(text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        reason = f"'{excerpt(member.name, 80)}' is not valid YAML, is nested too deep or uses aliases"
        raise BadValue(reason, _MEND) from None
    return content if isinstance(content, dict) else {}


def _names(content: dict[str, Any], member: Member) -> dict[int, str] | None:
    """Return the names in a YAML file; None if it is about something else."""
    names = content.get("names")
    if names is None:
        return None
    entries = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    kept = {number: str(name).strip() for number, name in entries if isinstance(number, int)}
    if not kept or not all(kept.values()):
        raise BadValue(f"'{excerpt(member.name, 80)}' has no names of classes in `names`", _MEND)
    return kept


def _keypoint_values(content: dict[str, Any], member: Member) -> int:
    """Return how many numbers `kpt_shape` ([keypoints, 2 or 3 numbers of each]) puts behind a box; 0 without it."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not whole or not 0 < shape[0] <= _MOST_KEYPOINTS or shape[1] not in (2, 3):
        reason = f"'{excerpt(member.name, 80)}' has the `kpt_shape` {excerpt(shape, 40)}, which is none"
        raise BadValue(reason, "Write how many keypoints there are, and 2 or 3 numbers of each, such as [17, 3].")
    return int(shape[0] * shape[1])


def _check_events(text: str) -> None:
    """Raise ValueError for aliases, each of which may stand for all that came before, and for deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError


def _text(archive: Archive, member: Member, most_bytes: int = MOST_BYTES) -> str:
    name = excerpt(member.name, 80)
    if member.info.file_size > most_bytes:
        raise BadValue(f"'{name}' has {member.info.file_size} bytes; the limit is {most_bytes}", _MEND)
    try:
        return archive.read(member).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadValue(f"'{name}' is not UTF-8", "Save it as UTF-8.") from None
