"""The names of YOLO's classes: `names` in a YAML file (a list, or an object by number), or a name a line."""

from __future__ import annotations

import posixpath

import yaml

from models.datasets.errors import SeveralClassLists
from models.datasets.formats.zip_members import Archive, Member
from models.datasets.problems import BadValue, excerpt

MOST_BYTES = 256 * 2**10
_MOST_YAML_BYTES = 64 * 2**10
_DEEPEST = 8  # the library takes minutes for brackets that are nested twenty thousand deep
_LISTS = {"classes.txt", "obj.names", "labels.txt", "classes.names", "_darknet.labels"}
_MEND = 'Write names as a list, such as ["cat", "dog"], or one a line into classes.txt.'


def is_list(member: Member) -> bool:
    """Return whether a member is a list of names by its own name."""
    return posixpath.basename(member.name).lower() in _LISTS or member.suffix == ".names"


def read(archive: Archive) -> tuple[dict[int, str], str]:
    """Return names by number, and the file that they come from; none and empty if the archive holds none.

    Raises BadValue for a file that cannot be read, and SeveralClassLists for files that disagree.
    """
    found: dict[str, dict[int, str]] = {}
    for member in sorted(archive.members, key=lambda member: len(member.folders)):
        if is_list(member):
            lines = _text(archive, member).splitlines()
            found[member.name] = {at: line.strip() for at, line in enumerate(lines) if line.strip()}
        elif member.suffix in (".yaml", ".yml") and (names := _from_yaml(archive, member)):
            found[member.name] = names
    if not found:
        return {}, ""
    first, *others = found
    different = next((other for other in others if found[other] != found[first]), None)
    if different is not None:
        raise SeveralClassLists(first=excerpt(first, 80), second=excerpt(different, 80))
    return found[first], first


def _from_yaml(archive: Archive, member: Member) -> dict[int, str]:
    """Return the names of a YAML file; none if it is about something else."""
    text = _text(archive, member, _MOST_YAML_BYTES)
    try:
        _check_events(text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        reason = f"'{excerpt(member.name, 80)}' is not valid YAML, is nested too deep or uses aliases"
        raise BadValue(reason, _MEND) from None
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        return {}
    entries = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    kept = {number: str(name).strip() for number, name in entries if isinstance(number, int)}
    if not kept or not all(kept.values()):
        raise BadValue(f"'{excerpt(member.name, 80)}' has no names of classes in `names`", _MEND)
    return kept


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
