"""The table of settings, made from the settings themselves: the README cannot say something else than the code.

`python -m deploy.configuration README.md` writes it there.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from models.settings import Settings

_PLACE = re.compile(r"(<!-- settings:[^>]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as a reader sees it."""

    variable: str
    default: str
    meaning: str

    def __iter__(self) -> Any:
        return iter((self.variable, self.default, self.meaning))


def entries() -> list[Entry]:
    """Every setting in the order of the class."""
    return [
        Entry(f"GRAFT_{name.upper()}", _default(field), field.description or _words(name))
        for name, field in Settings.model_fields.items()
    ]


def as_markdown() -> str:
    """The table of the README."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{entry.variable}` | {_cell(entry.default)} | {entry.meaning} |" for entry in entries()]
    return "\n".join(lines) + "\n"


def insert_into(document: str) -> str:
    """The document with the table between its two markers."""
    return _PLACE.sub(lambda found: found[1] + "\n" + as_markdown() + found[2], document)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == "" or isinstance(value, SecretStr):
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**20 and value % 2**20 == 0:
        return f"{value} ({value // 2**20:,} MiB)"
    return str(value)


def _cell(default: str) -> str:
    return f"`{default}`" if default else ""


def _words(name: str) -> str:
    words = name.replace("_", " ").removesuffix(" s")
    return words[0].upper() + words[1:] + "."


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(insert_into(readme.read_text(encoding="utf-8")), encoding="utf-8")
