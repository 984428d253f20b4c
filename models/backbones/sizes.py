"""Sizes of a base model, read from its folder without loading it: config.json and the header of its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

Config = dict[str, Any]


def read(folder: Path) -> dict[str, Any]:
    """Return `blocks`, `width`, `widths` by depth, `parameters`, `max_tokens`, `linear`, where the files have it.

    Files that have not changed are not read again: whoever names a base that there is none of asks for all of them.
    """
    return dict(_read(folder, _state(folder / "config.json"), _state(folder / "model.safetensors")))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _read(folder: Path, *_: tuple[int, int, int] | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {}
    if (config_file := folder / "config.json").is_file():
        config: Config = json.loads(config_file.read_text("utf-8"))
        widths = _WIDTHS.get(str(config.get("model_type")), _uniform)(config)
        if widths:
            sizes.update(widths=tuple(widths), width=widths[-1], blocks=len(widths) - 1)
        sizes["linear"] = config.get("model_type") not in _CONVOLUTIONS
        if "max_position_embeddings" in config:
            sizes["max_tokens"] = int(config["max_position_embeddings"]) - _positions_before(config)
    if (weights := folder / "model.safetensors").is_file():
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        sizes["parameters"] = sum(_count(tensor["shape"]) for tensor in header.values())
    return sizes


def _uniform(config: Config) -> list[int]:
    """Return the widths of a transformer, the same at every depth."""
    width = next((int(config[key]) for key in ("hidden_size", "dim") if key in config), 0)
    blocks = next((int(config[key]) for key in ("num_hidden_layers", "n_layers") if key in config), 0)
    return [width] * (blocks + 1) if width and blocks else []


def _siglip(config: Config) -> list[int]:
    """Return the widths of what reads pictures; its configuration leaves out what is as in the base size."""
    seeing = config.get("vision_config", config)
    return [int(seeing.get("hidden_size", 768))] * (int(seeing.get("num_hidden_layers", 12)) + 1)


def _whisper(config: Config) -> list[int]:
    """Return the widths of the encoder, of one that hears and writes."""
    return [int(config["d_model"])] * (int(config["encoder_layers"]) + 1)


def _positions_before(config: Config) -> int:
    """Return how many positions no token of a text has: RoBERTa and its kin count from behind the padding's."""
    return int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _COUNT_BEHIND_PADDING else 0


def _mobilenet_v1(config: Config) -> list[int]:
    scale, least = float(config.get("depth_multiplier", 1.0)), int(config.get("min_depth", 8))
    channels = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    return [max(int(count * scale), least) for count in channels]


def _mobilenet_v2(config: Config) -> list[int]:
    scale = float(config.get("depth_multiplier", 1.0))
    divisor, least = int(config.get("depth_divisible_by", 8)), int(config.get("min_depth", 8))

    def scaled(channels: int) -> int:
        wanted = round(channels * scale)
        found = max(least, (wanted + divisor // 2) // divisor * divisor)
        return found if found >= 0.9 * wanted else found + divisor

    top = 1280 if config.get("finegrained_output", True) and scale < 1.0 else scaled(1280)
    stack = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
    return [*(scaled(count) for count in stack), top]


def _residual(config: Config) -> list[int]:
    layers = [
        int(width)
        for width, depth in zip(config["hidden_sizes"], config["depths"], strict=True)
        for _ in range(int(depth))
    ]
    return [int(config["embedding_size"]), *layers]


def _convnext(config: Config) -> list[int]:
    stages = [int(width) for width in config["hidden_sizes"]]
    return [stages[0], *stages]


def _detector(config: Config) -> list[int]:
    """Return the widths of a detector's queries; its configuration leaves out what is as its makers have it."""
    return [int(config.get("d_model", 256))] * (int(config.get("decoder_layers", 6)) + 1)


_COUNT_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
# Networks whose blocks have no linear layer.
_CONVOLUTIONS = ("mobilenet_v1", "mobilenet_v2", "resnet", "regnet")
_WIDTHS: dict[str, Callable[[Config], list[int]]] = {
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "resnet": _residual,
    "regnet": _residual,
    "convnext": _convnext,
    "convnextv2": _convnext,
    "rt_detr": _detector,
    "d_fine": _detector,
    "siglip": _siglip,
    "siglip_vision_model": _siglip,
    "whisper": _whisper,
}


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
