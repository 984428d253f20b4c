"""A trained version on disk: `weights.safetensors` and `manifest.json`, which carries the weights' hash.

Tensors: `head.weight` (K, F) and `head.bias` (K,) on the manifest's features side by side; beside them, if the version
adds a lexical part, `lexical.buckets` and `.idf` (V,), `.weight` (V, K) and `.factor` (1,), see `lexical`; if it
changes the base, `lora.{block}.{module}.A` (rank, in) and `.B` (out, rank) with the scaling folded into B, or its own
`block.{i}.{parameter}`, and for a whole base of its own `embeddings.{parameter}`. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from models.learning import tasks
from models.learning.contract.errors import CorruptArtifact

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Artifact:
    """All that serving needs: what is computed (features, tensors), and what the numbers mean (labels, task)."""

    task: str
    strategy: str
    labels: tuple[str, ...]
    features: tuple[str, ...]
    base: str
    base_revision: str
    temperature: float  # logits are divided by it
    thresholds: tuple[float, ...] | None  # what a decision needs beside the outputs, see `Task.tune_thresholds`
    tensors: Mapping[str, Tensor]
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: rank, first own block, versions, …


def write_artifact(artifact: Artifact, folder: Path) -> str:
    """Write the files, the manifest last; returns the manifest's SHA-256. The same artifact gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    save_file({name: artifact.tensors[name].detach().cpu().contiguous() for name in sorted(artifact.tensors)}, weights)
    manifest = {
        "format": FORMAT,
        "task": artifact.task,
        "strategy": artifact.strategy,
        "labels": list(artifact.labels),
        "features": list(artifact.features),
        "base": {"name": artifact.base, "revision": artifact.base_revision},
        "temperature": artifact.temperature,
        "thresholds": None if artifact.thresholds is None else list(artifact.thresholds),
        "details": dict(artifact.details),
        "files": {WEIGHTS: {"sha256": _sha256(weights), "bytes": weights.stat().st_size}},
    }
    content = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_bytes(content)
    temporary.replace(folder / MANIFEST)
    return hashlib.sha256(content).hexdigest()


def read_artifact(folder: Path) -> Artifact:
    """Read what `write` wrote and verify it; raises CorruptArtifact."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise CorruptArtifact(reason=f"format {manifest['format']} is not {FORMAT}")
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["files"][WEIGHTS]["sha256"]:
            raise CorruptArtifact(reason=f"{WEIGHTS} does not have the hash in the manifest")
        tensors = load(content)
        artifact = Artifact(
            task=manifest["task"],
            strategy=manifest["strategy"],
            labels=tuple(manifest["labels"]),
            features=tuple(manifest["features"]),
            base=manifest["base"]["name"],
            base_revision=manifest["base"]["revision"],
            temperature=float(manifest["temperature"]),
            thresholds=None if manifest["thresholds"] is None else tuple(map(float, manifest["thresholds"])),
            tensors=tensors,
            details=manifest["details"],
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptArtifact(reason=f"{type(error).__name__}: {error}") from error
    outputs = tasks.find(artifact.task).outputs(artifact.labels)
    if tensors["head.weight"].shape[0] != outputs or tensors["head.bias"].shape != (outputs,):
        raise CorruptArtifact(reason="the head does not have the outputs that its labels need")
    return artifact


def finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every number in it is one."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
