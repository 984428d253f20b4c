"""Real pretrained weights, where there are any: parity with published figures, and what their features are worth."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.backbones import loading, log_mel, sizes
from models.backbones.registry import BackboneEntry, FolderSource, Modality
from models.datasets.examples import Media
from tests.device import DEVICE

SHARED = Path(os.environ.get("GRAFT_SHARED_DIR", Path(__file__).parents[4] / "shared"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (SHARED / "backbones").is_dir(), reason="no weights here")]


def entry(name: str, modality: Modality) -> BackboneEntry:
    folder = SHARED / "backbones" / name
    found = sizes.read(folder)
    return BackboneEntry(
        name, modality, FolderSource(folder), "Apache-2.0", found["width"], found["blocks"], found["parameters"], 0
    )


def accuracy(train: tuple[np.ndarray, list[str]], test: tuple[np.ndarray, list[str]]) -> float:
    scaler = StandardScaler().fit(train[0])
    scale = np.sqrt(train[0].shape[1])
    head = LogisticRegression(C=10, max_iter=300, tol=1e-3).fit(scaler.transform(train[0]) / scale, train[1])
    return float(head.score(scaler.transform(test[0]) / scale, test[1]))


def photos(part: str) -> tuple[list[Media], list[str]]:
    files = sorted((SHARED / "data/hymenoptera" / part).rglob("*.jpg"))
    return [Media(file.name, file.read_bytes()) for file in files], [file.parent.name for file in files]


def digits(part: str) -> tuple[list[Media], list[str]]:
    folder = SHARED / "data/fsdd_speakers_a"
    with (folder / f"{part}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [Media(row["file"], (folder / row["file"]).read_bytes()) for row in rows], [row["label"] for row in rows]


def test_the_front_end_has_the_published_window_and_mel_matrix():
    folder = SHARED / "backbones/yamnet"
    front, stored = log_mel.read(folder / "frontend.json"), load_file(folder / "frontend.safetensors")
    assert np.abs(front.window() - stored["window"]).max() < 1e-6
    assert np.abs(front.mel_matrix().T - stored["mel"]).max() < 1e-6
    assert front.patches(np.zeros(16_000, dtype=np.float32)).shape == (2, 1, 96, 64)
    assert front.patches(np.zeros(15_600, dtype=np.float32)).shape == (1, 1, 96, 64)
    silence = front.patches(np.zeros(100, dtype=np.float32))
    np.testing.assert_allclose(silence, np.log(0.001), rtol=1e-6)


def test_yamnet_hears_a_tone_for_what_it_is():
    from transformers import AutoModelForImageClassification

    folder = SHARED / "backbones/yamnet"
    names = json.loads((folder / "config.json").read_text())["id2label"]
    classifier = AutoModelForImageClassification.from_pretrained(folder).eval()
    seconds_N = np.arange(15_600) / 16_000
    patches = log_mel.read(folder / "frontend.json").patches((0.5 * np.sin(2 * np.pi * 440 * seconds_N)).astype("f"))
    with torch.inference_mode():
        scores = torch.sigmoid(classifier(pixel_values=torch.from_numpy(patches)).logits)[0]
    best = {names[str(int(index))] for index in scores.topk(5).indices}
    assert best & {"Sine wave", "Beep, bleep", "Dial tone", "Tuning fork"}


def test_ants_and_bees():
    backbone = loading.load(entry("mobilenet_v2_1.0_224", "image"), device=DEVICE, precision="fp32", threads=1)
    assert list(sizes.read(SHARED / "backbones/mobilenet_v2_1.0_224")["widths"]) == backbone.widths
    names = list(backbone.feature_sets()["last"])
    (train, train_labels), (test, test_labels) = photos("train"), photos("val")
    score = accuracy((backbone.encode(train, names), train_labels), (backbone.encode(test, names), test_labels))
    assert score >= 0.95


def test_spoken_digits():
    backbone = loading.load(entry("yamnet", "audio"), device=DEVICE, precision="auto", threads=1)
    names = list(backbone.feature_sets()["bands"])
    (train, train_labels), (test, test_labels) = digits("train"), digits("test")
    score = accuracy((backbone.encode(train, names), train_labels), (backbone.encode(test, names), test_labels))
    assert score >= 0.93
