"""Loading of base models, by modality. A new kind of base is a new file and a line here."""

from __future__ import annotations

from importlib import import_module

from models.backbones import precision as formats
from models.backbones.backbone import Backbone
from models.backbones.registry import BackboneEntry

__all__ = ["Backbone", "load"]

# By name: the libraries of pictures and sounds take seconds to import, and most processes read neither.
_LOADERS: dict[str, str] = {
    "text": "models.backbones.text",
    "image": "models.backbones.image",
    "audio": "models.backbones.audio",
}
_DETECTORS = "models.backbones.detector"


def load(entry: BackboneEntry, *, device: str = "auto", precision: str = "auto", threads: int = 0) -> Backbone:
    """Load the frozen base.

    `device` is `auto`, `cpu`, `cuda`, …; `precision` is `auto`, `fp32` or `bf16`; `threads` is how many compute
    threads this process gets, 0 for one per core. Raises BaseModelUnreachable, UnsupportedBaseModel,
    UnsupportedDetector.
    """
    threads = formats.use_threads(threads)
    formats.use_exact_convolutions()
    loader = import_module(_DETECTORS if entry.kind == "detector" else _LOADERS[entry.modality])
    backbone: Backbone = loader.load(entry, device=formats.resolve_device(device), precision=precision, threads=threads)
    return backbone
