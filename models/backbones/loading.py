"""An entry of the registry → a backbone in memory. One line per modality; a new kind of base is a new file."""

from __future__ import annotations

from collections.abc import Callable

from models.backbones import precision as formats
from models.backbones import text
from models.backbones.registry import BackboneEntry

Backbone = text.TextBackbone

_LOADERS: dict[str, Callable[..., Backbone]] = {
    "text": text.load,
}


def load(entry: BackboneEntry, *, device: str = "auto", precision: str = "auto", threads: int = 0) -> Backbone:
    """Load the frozen base.

    `device` is `auto`, `cpu`, `cuda`, …; `precision` is `auto`, `fp32` or `bf16`; `threads` is how many compute
    threads this process gets, 0 for one per core. Raises BaseModelUnreachable and UnsupportedBaseModel.
    """
    threads = formats.use_threads(threads)
    return _LOADERS[entry.modality](entry, device=formats.resolve_device(device), precision=precision, threads=threads)
