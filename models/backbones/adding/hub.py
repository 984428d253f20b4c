"""Models of a hub that speaks Hugging Face's protocol: resolved to a commit, then downloaded. No torch."""

from __future__ import annotations

import importlib
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from models.backbones.adding.errors import GatedModel, HubUnreachable, ModelNotOnHub, NoSafeWeights
from models.backbones.sources import HubSource

# Of the repository's top folder. No code, no pickles, no weights of other programs.
_WANTED = (
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentence_bert_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "frontend.json",
    "frontend.safetensors",
    "generation_config.json",
    "chat_template.jinja",
    "README.md",
    "LICENSE*",
)
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")
_TIMEOUT_S = 10.0


def fetch(repository: str, revision: str | None) -> tuple[HubSource, Path, str]:
    """Return the source, pinned to the commit that `revision` (None: the main branch) is now, the folder, and a note.

    Without a network what the cache has of it is taken, and the note says so. Raises ModelNotOnHub, GatedModel,
    HubUnreachable, NoSafeWeights.
    """
    # A tenth of a second that only hub bases cost.
    hub: Any = importlib.import_module("huggingface_hub")
    endpoint = str(importlib.import_module("huggingface_hub.constants").ENDPOINT)
    try:
        found = hub.HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT_S)
        files = [sibling.rfilename for sibling in found.siblings or ()]
        wanted = [file for file in files if any(fnmatch(file, pattern) for pattern in _WANTED) and "/" not in file]
        _require_weights(repository, files)
        folder = Path(hub.snapshot_download(repository, revision=found.sha, allow_patterns=wanted))
    except hub.errors.GatedRepoError as error:
        token = "the one that is set has not" if _has_token(hub) else "none is set now"
        raise GatedModel(id=repository, endpoint=endpoint, token=token) from error
    except (
        hub.errors.RepositoryNotFoundError,
        hub.errors.RevisionNotFoundError,
        hub.errors.HFValidationError,
    ) as error:
        at = f" at the revision '{revision}'" if revision else ""
        raise ModelNotOnHub(id=repository, at=at, endpoint=endpoint) from error
    except NoSafeWeights:
        raise
    except Exception as error:  # the client's own errors, its transport's, the network's
        cached = _cached(hub, repository, revision)
        if cached is None:
            reason, mend = _reason(hub, error)
            raise HubUnreachable(id=repository, endpoint=endpoint, reason=reason, mend=mend) from error
        commit = cached.name
        return HubSource(repository, commit), cached, f"{endpoint} was not asked: this is what the cache has, {commit}."
    return HubSource(repository, str(found.sha)), folder, ""


def _require_weights(repository: str, files: list[str]) -> None:
    if any(file in ("model.safetensors", "model.safetensors.index.json") for file in files):
        return
    others = [file for file in files if any(fnmatch(file, pattern) for pattern in _OTHER_WEIGHTS)]
    shown = ", ".join(others[:3]) or "no weights at all"
    raise NoSafeWeights(id=repository, found=f"there is {shown}" if others else shown)


def _cached(hub: Any, repository: str, revision: str | None) -> Path | None:
    """Return the folder of the commit that the cache knows for the revision, if config and weights are in it.

    If none was named and the cache has a single commit, that one.
    """
    constants: Any = importlib.import_module("huggingface_hub.constants")
    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    kept = [folder.name for folder in snapshots.iterdir()] if snapshots.is_dir() else []
    for commit in [revision or "main", *(kept if revision is None and len(kept) == 1 else ())]:
        for weights in ("model.safetensors", "model.safetensors.index.json"):
            paths = [hub.try_to_load_from_cache(repository, name, revision=commit) for name in ("config.json", weights)]
            if all(isinstance(path, str) for path in paths):
                return Path(paths[0]).parent
    return None


def _reason(hub: Any, error: Exception) -> tuple[str, str]:
    if isinstance(error, hub.errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set", "Unset it where there is a network."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"it answers {status}", "Try again later, or name a mirror in HF_ENDPOINT."
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror} ({error.filename})", "Make room, or set HF_HOME to another disk."
    return f"no connection ({type(error).__name__})", "Look at the network, or name a mirror in HF_ENDPOINT."


def _has_token(hub: Any) -> bool:
    return bool(os.environ.get("HF_TOKEN") or hub.get_token())
