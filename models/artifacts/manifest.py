"""The manifest of an artifact: typed, frozen, and JSON on disk. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.artifacts.errors import CorruptArtifact
from models.datasets.windowing import Windowing

# An earlier release reads 1 alone: values whose scale it does not know would be answered wrongly, so it refuses them.
FORMAT, FORMAT_WITH_SCALE = 1, 2
UNSCALED = (0.0, 1.0)
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the manifest names it."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The meaning of an artifact's numbers."""

    task: str
    strategy: str
    labels: tuple[str, ...]
    features: tuple[str, ...]
    base: str
    base_revision: str
    temperature: float = 1.0  # logits are divided by it
    thresholds: tuple[float, ...] | None = None  # what a decision needs beside the outputs, see `Task.tune_thresholds`
    scale: tuple[float, float] = UNSCALED  # (offset, factor) from outputs to values in the customer's own unit
    windowing: Windowing | None = None  # how long texts are read; None, as in versions of before: their beginnings
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: rank, first own block, versions, …
    files: Mapping[str, StoredFile] = field(default_factory=dict, compare=False)  # filled in by the writer

    def encode(self) -> bytes:
        """Return the content of `manifest.json`; the same manifest gives the same bytes."""
        values = {
            "format": FORMAT if self.scale == UNSCALED else FORMAT_WITH_SCALE,
            "task": self.task,
            "strategy": self.strategy,
            "labels": list(self.labels),
            "features": list(self.features),
            "base": {"name": self.base, "revision": self.base_revision},
            "temperature": self.temperature,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            **({} if self.scale == UNSCALED else {"scale": list(self.scale)}),
            "windowing": None if self.windowing is None else _described(self.windowing),
            "details": dict(self.details),
            "files": {name: asdict(file) for name, file in self.files.items()},
        }
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Read what `encode` wrote; raises CorruptArtifact, for a manifest of another format, too."""
        try:
            values = json.loads(content)
            if values["format"] not in (FORMAT, FORMAT_WITH_SCALE):
                known = f"only {FORMAT} and {FORMAT_WITH_SCALE} can be read"
                raise CorruptArtifact(reason=f"its format is {values['format']}, {known}")
            offset, factor = values.get("scale", UNSCALED)
            return cls(
                task=str(values["task"]),
                strategy=str(values["strategy"]),
                labels=tuple(map(str, values["labels"])),
                features=tuple(map(str, values["features"])),
                base=str(values["base"]["name"]),
                base_revision=str(values["base"]["revision"]),
                temperature=float(values["temperature"]),
                thresholds=None if values["thresholds"] is None else tuple(map(float, values["thresholds"])),
                scale=(float(offset), float(factor)),
                windowing=Windowing(**windowing) if (windowing := values.get("windowing")) else None,
                details=dict(values["details"]),
                files={name: StoredFile(file["sha256"], file["bytes"]) for name, file in values["files"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifact(reason="its manifest cannot be read") from error


def _described(windowing: Windowing) -> dict[str, Any]:
    """Return the windowing as JSON; an older release reads the usual split of words, which it does not know by name."""
    described = asdict(windowing)
    if described["words"] == "apart":
        del described["words"]
    return described
