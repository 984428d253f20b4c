"""The operator's file of base models: where it is, read, and changed without losing what else is in it. No torch.

`models.backbones.registry` says what an entry means.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.backbones.errors import InvalidBaseModelsFile, UnwritableBaseModelsFile
from models.settings import Settings

Fields = dict[str, Any]

_NAME = "base-models.json"  # in the data folder


def path_of(settings: Settings) -> Path:
    """Return the file that the setting names, else the one in the data folder, which need not be there."""
    return settings.base_models_file or settings.data_dir.absolute() / _NAME


def read(settings: Settings) -> dict[str, Fields]:
    """Return the entries by name, none where there is no file and none was named. Raises InvalidBaseModelsFile."""
    path = path_of(settings)
    if settings.base_models_file is None and not path.is_file():
        return {}
    return _read(path)


@contextmanager
def changing(settings: Settings) -> Iterator[dict[str, Fields]]:
    """Give the entries to change; on leaving they are written whole, or, after an error, not at all.

    Two that change the file do so one after the other. Readers see the old file or the new one. Raises
    InvalidBaseModelsFile, UnwritableBaseModelsFile.
    """
    path = path_of(settings).resolve()  # a link stays one: the file that it names is replaced
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may become the data folder: customers' data
        lock = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise UnwritableBaseModelsFile(path=path, reason=error.strerror) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = _read(path) if path.is_file() else {}
        yield entries
        try:
            _replace(path, json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UnwritableBaseModelsFile(path=path, reason=error.strerror) from error


def _read(path: Path) -> dict[str, Fields]:
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidBaseModelsFile(path=path, reason=f"{type(error).__name__}: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(fields, dict) for fields in entries.values()):
        raise InvalidBaseModelsFile(path=path, reason="it is not an object of name → entry")
    return entries


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
