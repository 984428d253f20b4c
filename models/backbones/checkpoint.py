"""Checkpoints in Hugging Face layout: read without code of their own, and hashed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from models.backbones.errors import BaseModelUnreachable
from models.backbones.registry import BackboneEntry, HubSource

EncoderT = TypeVar("EncoderT")

_ONE_READER = threading.RLock()
_WEIGHTS = ["model*.safetensors*"]  # whole, or its shards and their index


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[EncoderT]):
    """The files of a base model."""

    entry: BackboneEntry
    revision: str  # hash of everything that the features depend on
    read: Callable[[], EncoderT]  # a fresh fp32 encoder, in the machine's own memory


def from_pretrained(loader: Any, entry: BackboneEntry, folder: Path | None, **options: Any) -> Any:
    """Return what `loader` reads from the entry's source; raises BaseModelUnreachable."""
    try:
        source = entry.source
        if isinstance(source, HubSource):
            if "use_safetensors" in options:
                _download_weights(source)
            with one_reader():
                return loader.from_pretrained(source.id, revision=source.revision, trust_remote_code=False, **options)
        with one_reader():
            return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise BaseModelUnreachable(
            name=entry.name,
            source=entry.source,
            reason=str(error).splitlines()[0],
            mend="Check the source, or download it once while there is a network.",
        ) from error


@contextmanager
def one_reader() -> Iterator[None]:
    """Let one thread of the process read a checkpoint with transformers, which says nothing on stderr meanwhile.

    While it reads, transformers replaces functions of its own (among them the one that ties the head to the embedding):
    with two threads in there, the weights that one of them should tie stay on the device `meta`.
    """
    from transformers.utils import logging  # noqa: PLC0415 - most processes start without it

    library_log: Any = logging  # its functions carry no types
    with _ONE_READER:
        # The library reports unused weights (a pooler) on stderr as if something were wrong.
        verbosity = library_log.get_verbosity()
        library_log.set_verbosity_error()
        library_log.disable_progress_bar()
        try:
            yield
        finally:
            library_log.set_verbosity(verbosity)


def _download_weights(source: HubSource) -> None:
    """Fetch the weights into the hub's cache before the reader's turn: a slow download holds up no other base."""
    import huggingface_hub  # noqa: PLC0415 - only bases of the hub need it

    huggingface_hub.snapshot_download(source.id, revision=source.revision, allow_patterns=_WEIGHTS)


def revision_of(entry: BackboneEntry, folder: Path | None, files: Sequence[str], *settings: object) -> str:
    """Return the SHA-256 of the files that decide what comes out, and of settings that do too."""
    digest = hashlib.sha256()
    if folder is None:
        digest.update(f"{entry.source}".encode())
    else:
        for name in files:
            if (file := folder / name).is_file():
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
    for setting in settings:
        digest.update(f"{setting}".encode())
    return digest.hexdigest()
