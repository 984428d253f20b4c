"""Frozen features of a corpus, computed once and kept on disk in the customer's own folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models import disk
from models.backbones.backbone import TokenizedInput
from models.backbones.feature_names import split_unit
from models.backbones.loading import Backbone
from models.learning.data.corpus import Corpus

Floats = NDArray[np.float32]

_log = structlog.get_logger(__name__)


def feature_sets(blocks: int) -> dict[str, tuple[str, ...]]:
    """Return the sets among which cross-validation chooses, by the names that customers use; the default first."""
    last, top = f"unit_mean.{blocks}", f"unit_max.{blocks}"
    depths = tuple(f"unit_mean.{depth}" for depth in range(blocks + 1))
    return {"last-max": (last, top), "depths-max": (*depths, top), "last": (last,), "depths": depths}


def plain(names: Sequence[str]) -> list[str]:
    """Return the features that have to be computed to derive `names`: those without scaling, once each."""
    return list(dict.fromkeys(split_unit(name)[1] for name in names))


def derive(features: Mapping[str, Floats], names: Sequence[str]) -> Floats:
    """Return the named features side by side, (N, F), from the plain ones."""
    parts = []
    for name in names:
        unit, unscaled = split_unit(name)
        values_ND = features[unscaled]
        if unit:
            values_ND = values_ND / np.maximum(np.linalg.norm(values_ND, axis=1, keepdims=True), 1e-12)
        parts.append(values_ND)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def is_copy(names: Sequence[str]) -> bool:
    """Return whether `derive` makes an array of its own for these names; one as it was computed is not copied."""
    return len(names) > 1 or split_unit(names[0])[0]


def width(features: Mapping[str, Floats], name: str) -> int:
    """Return the width of the named feature."""
    return int(features[split_unit(name)[1]].shape[1])


def split(stacked_NF: Floats, names: Sequence[str], backbone: Backbone) -> dict[str, Floats]:
    """Features side by side → each by its name."""
    ends = np.cumsum([backbone.feature_width(name) for name in names])
    parts = np.split(stacked_NF, ends[:-1], axis=1)
    return {name: np.ascontiguousarray(part) for name, part in zip(names, parts, strict=True)}


def compute(
    corpus: Corpus,
    tokens: Sequence[TokenizedInput],
    names: Sequence[str],
    backbone: Backbone,
    *,
    cache_dir: Path | None,
    stop: Callable[[], bool],
) -> Generator[float, None, dict[str, Floats]]:
    """Return the named features (N, D) of all rows, or of their units; yield the share done.

    Cached by base, precision and the inputs' hash.
    """
    counts_N = backbone.units(tokens)
    expected = len(corpus) if counts_N is None else int(counts_N.sum())
    path = None if cache_dir is None else cache_dir / f"{_key(corpus, names, backbone)}.safetensors"
    if path is not None and (cached := _read(path, names, expected)) is not None:
        yield 1.0
        return cached
    stacked_NF = yield from backbone.encode_steps(tokens, names, stop=stop)
    features = split(stacked_NF, names, backbone)
    if path is not None:
        _write(path, features)
    return features


def _key(corpus: Corpus, names: Sequence[str], backbone: Backbone) -> str:
    parts = (backbone.revision, str(backbone.dtype), repr(backbone.windowing), corpus.digest, *names)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def _read(path: Path, names: Sequence[str], rows: int) -> dict[str, Floats] | None:
    """Return the cached features; None if there are none or if they are not what was written."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            expected = (file.metadata() or {}).get("sha256")
            features = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        _log.warning("feature_cache_unreadable", path=str(path), error=str(error))
        return None
    if _digest(features) != expected or any(len(array) != rows for array in features.values()):
        _log.warning("feature_cache_corrupt", path=str(path))
        return None
    return features


def _write(path: Path, features: dict[str, Floats]) -> None:
    """Write the cache if there is room: a full disk loses the cache, not the job."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.writing_tensors():
            save_file(features, temporary, metadata={"sha256": _digest(features)})
        temporary.replace(path)
    except OSError as error:
        _log.warning("feature_cache_not_written", path=str(path), error=str(error))
        with contextlib.suppress(OSError):
            temporary.unlink()


def _digest(features: dict[str, Floats]) -> str:
    digest = hashlib.sha256()
    for name in sorted(features):
        digest.update(f"{name}{features[name].shape}".encode())
        digest.update(np.ascontiguousarray(features[name]).data)
    return digest.hexdigest()
