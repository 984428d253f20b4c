"""Pictures and sounds through a real worker: an archive up, a model of one's own, answers to files of a form."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import archive, sound, stripes

# Told apart by what even a base with random weights sees: wide stripes or narrow ones, low pitch or high.
_PICTURES = {label: partial(stripes, label) for label in ("wide", "narrow")}
_SOUNDS = {
    label: lambda seed, rate=rate: sound(seconds=0.3, rate=rate, seed=seed)
    for label, rate in (("low", 4_000), ("high", 16_000))
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "kinds", "suffix"), [("vit", _PICTURES, "png"), ("yamnet", _SOUNDS, "wav")], ids=["image", "audio"]
)
def test_an_archive_becomes_an_endpoint(
    deploy: Callable[..., object],
    tmp_path: Path,
    checkpoint: str,
    kinds: dict[str, Callable[[int], bytes]],
    suffix: str,
):
    entry = media_checkpoints.write(tmp_path / checkpoint, checkpoint)
    bases = {"own": {"modality": entry.modality, "source": {"folder": str(tmp_path / checkpoint)}, "licence": "none"}}
    (tmp_path / "bases.json").write_text(json.dumps(bases))
    deployment = deploy(GRAFT_BASE_MODELS_FILE=str(tmp_path / "bases.json"))
    path = tmp_path / "train.zip"
    path.write_bytes(archive({f"{kind}/{n}.{suffix}": make(n) for kind, make in kinds.items() for n in range(12)}))

    acme = deployment.customer("acme")
    job = acme.wait(acme.train(path, "grain"), "succeeded", timeout_s=240)
    assert (job["task"], job["model"]) == (f"{entry.modality}-classification", "own")
    assert job["trained_rows"] == 24
    assert job["fine_tuned_model"] == "ft:own:acme:grain"

    wanted = [(kind, seed) for kind in kinds for seed in range(100, 108)]
    form = {f"{kind}-{seed}": (f"{seed}.{suffix}", kinds[kind](seed)) for kind, seed in wanted}
    answer = acme.http.post("/v1/models/grain/predict", files=form)
    assert answer.status_code == 200, answer.text
    found = [prediction["label"] for prediction in answer.json()["predictions"]]
    assert sum(label == kind for label, (kind, _) in zip(found, wanted, strict=True)) >= 0.9 * len(wanted)
