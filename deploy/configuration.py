"""The settings in documents, made from the settings themselves: no document can say something else than the code.

`python -m deploy.configuration README.md docker-compose.yml deploy/compose.env.example` writes them there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from models.settings import Settings

# An image decides these: its folder, and where its own server listens.
OF_THE_IMAGE = frozenset({"GRAFT_DATA_DIR", "GRAFT_HOST", "GRAFT_PORT"})
# docker-compose.yml names these by hand: secrets, what belongs to one service, addresses of its other services.
NAMED_BY_HAND = frozenset(
    {
        "GRAFT_ADMIN_KEY",
        "GRAFT_ROLE",
        "GRAFT_DATABASE_URL",
        "GRAFT_BROKER_URL",
        "GRAFT_OBJECT_STORE",
        "GRAFT_S3_ENDPOINT_URL",
        "GRAFT_S3_ACCESS_KEY_ID",
        "GRAFT_S3_SECRET_ACCESS_KEY",
        "GRAFT_THREADS",
        "GRAFT_WORKER_METRICS_PORT",
    }
)
_IN_MARKDOWN = re.compile(r"(<!-- settings:[^>]*-->\n).*?(<!-- /settings -->)", re.DOTALL)
_IN_HASHES = re.compile(r"(?m)(^ *# settings:.*\n)(?:.*\n)*?(^ *# /settings\n)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as a reader sees it. `value` is the default as an environment variable has it."""

    variable: str
    default: str
    meaning: str
    value: str

    def __iter__(self) -> Any:
        return iter((self.variable, self.default, self.meaning))


def entries() -> list[Entry]:
    """Every setting in the order of the class."""
    return [
        Entry(f"GRAFT_{name.upper()}", _default(field), field.description or _words(name), _value(field))
        for name, field in Settings.model_fields.items()
    ]


def as_markdown() -> str:
    """The table of the README."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{entry.variable}` | {_cell(entry.default)} | {entry.meaning} |" for entry in entries()]
    return "\n".join(lines) + "\n"


def as_compose() -> str:
    """The environment that all services of docker-compose.yml share; an empty variable is as good as none."""
    shared = [entry.variable for entry in entries() if entry.variable not in OF_THE_IMAGE | NAMED_BY_HAND]
    return "".join(f"  {variable}: ${{{variable}:-}}\n" for variable in shared)


def as_dotenv() -> str:
    """Every setting that may stand in `.env`, commented out, with its meaning and its default."""
    shown = [entry for entry in entries() if entry.variable not in OF_THE_IMAGE | {"GRAFT_ADMIN_KEY"}]
    return "".join(f"# {entry.meaning}\n#{entry.variable}={entry.value}\n" for entry in shown)


def insert_into(document: str) -> str:
    """The README with the table between its two markers."""
    return _IN_MARKDOWN.sub(lambda found: found[1] + "\n" + as_markdown() + found[2], document)


def insert_into_compose(document: str) -> str:
    """docker-compose.yml with every setting between its two markers."""
    return _IN_HASHES.sub(lambda found: found[1] + as_compose() + found[2], document)


def insert_into_dotenv(document: str) -> str:
    """compose.env.example with every setting between its two markers."""
    return _IN_HASHES.sub(lambda found: found[1] + as_dotenv() + found[2], document)


WRITERS: dict[str, Callable[[str], str]] = {
    "README.md": insert_into,
    "docker-compose.yml": insert_into_compose,
    "deploy/compose.env.example": insert_into_dotenv,
}


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**20 and value % 2**20 == 0:
        return f"{value} ({value // 2**20:,} MiB)"
    return _value(field)


def _value(field: FieldInfo) -> str:
    value = field.default
    return "" if value is None or value == "" or isinstance(value, SecretStr) else str(value)


def _cell(default: str) -> str:
    return f"`{default}`" if default else ""


def _words(name: str) -> str:
    words = name.replace("_", " ").removesuffix(" s")
    return words[0].upper() + words[1:] + "."


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(WRITERS[name](path.read_text(encoding="utf-8")), encoding="utf-8")
