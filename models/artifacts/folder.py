"""One writer and one reader of a trained version's folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models import disk
from models.artifacts import parts as parts_
from models.artifacts.errors import CorruptArtifact
from models.artifacts.manifest import MANIFEST, WEIGHTS, Manifest, StoredFile
from models.artifacts.parts import Part

SomePart = TypeVar("SomePart", bound=Part)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A trained version: what the numbers mean, and the numbers."""

    manifest: Manifest
    parts: tuple[Part, ...]

    def find(self, kind: type[SomePart]) -> SomePart | None:
        """Return the part of a kind; None if the version has none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def require(self, kind: type[SomePart]) -> SomePart:
        """Return the part of a kind; raises CorruptArtifact if the version has none."""
        if (part := self.find(kind)) is None:
            raise CorruptArtifact(reason=f"its part '{kind.prefix}' is missing")
        return part

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by their names on disk."""
        return parts_.pack(self.parts)


def write_artifact(artifact: Artifact, folder: Path) -> str:
    """Write the files, the manifest last; return the manifest's SHA-256. The same artifact gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, tensors = folder / WEIGHTS, artifact.tensors
    with disk.writing_tensors():
        safetensors.torch.save_file(
            {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, weights
        )
    stored = StoredFile(_sha256(weights), weights.stat().st_size)
    content = replace(artifact.manifest, files={WEIGHTS: stored}).encode()
    _write(content, folder)
    return hashlib.sha256(content).hexdigest()


def add_to_manifest(folder: Path, name: str) -> None:
    """Name a file that lies beside the weights in the manifest, with its hash. Raises CorruptArtifact, OSError."""
    manifest = Manifest.decode((folder / MANIFEST).read_bytes())
    stored = StoredFile(_sha256(folder / name), (folder / name).stat().st_size)
    _write(replace(manifest, files={**manifest.files, name: stored}).encode(), folder)


def is_as_published(folder: Path, name: str, manifest: Manifest) -> bool:
    """Return whether a file is the one that the manifest names, or one that it does not name: in older versions."""
    expected = manifest.files.get(name)
    try:
        return expected is None or _sha256(folder / name) == expected.sha256
    except OSError:
        return False


def read_artifact(folder: Path, *, manifest_sha256: str | None = None, map_bytes: int | None = None) -> Artifact:
    """Read what `write_artifact` wrote and verify it: the weights against the manifest, the manifest against its hash.

    Weights of `map_bytes` and more are memory-mapped: their pages come as they are touched. Raises CorruptArtifact.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        if manifest_sha256 is not None and hashlib.sha256(content).hexdigest() != manifest_sha256:
            raise CorruptArtifact(reason="its manifest is not the one that was published")
        manifest = Manifest.decode(content)
        if WEIGHTS not in manifest.files:
            raise CorruptArtifact(reason="its manifest names no weights")
        return Artifact(manifest, parts_.unpack(_read_weights(folder / WEIGHTS, manifest.files[WEIGHTS], map_bytes)))
    except OSError as error:
        raise CorruptArtifact(reason=f"a file cannot be read ({error})") from error
    except SafetensorError as error:
        raise CorruptArtifact(reason="its weights are not a safetensors file") from error
    except (KeyError, ValueError) as error:
        raise CorruptArtifact(reason=f"its tensors are not those of known parts ({error})") from error


def _write(manifest: bytes, folder: Path) -> None:
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_bytes(manifest)
    temporary.replace(folder / MANIFEST)


def _read_weights(path: Path, expected: StoredFile, map_bytes: int | None) -> dict[str, Tensor]:
    if map_bytes is None or path.stat().st_size < map_bytes:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise CorruptArtifact(reason="its weights do not match the manifest")
        return safetensors.torch.load(content)
    if _sha256(path) != expected.sha256:
        raise CorruptArtifact(reason="its weights do not match the manifest")
    with safe_open(path, framework="pt") as mapped:
        return {name: mapped.get_tensor(name) for name in mapped.keys()}  # noqa: SIM118


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
