from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.backbones import registry
from models.backbones.errors import BaseModelUnreachable, InvalidBaseModelsFile, NoBaseModel, UnknownBaseModel
from models.backbones.registry import BackboneEntry, FolderSource, HubSource, WheelSource
from models.settings import Settings


def _settings(tmp_path: Path, content: object) -> Settings:
    path = tmp_path / "bases.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return Settings(base_models_file=path)


def test_minilm_is_built_in() -> None:
    entry = registry.find(Settings(), "minilm")
    assert (entry.width, entry.blocks, entry.modality) == (384, 6, "text")
    folder = registry.folder_of(entry)
    assert folder is not None
    assert (folder / "model.safetensors").is_file()


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownBaseModel, match="Did you mean 'minilm'") as caught:
        registry.find(Settings(), "minilmm")
    assert caught.value.param == "model"
    assert caught.value.status == 400


def test_operator_adds_bases(tmp_path: Path) -> None:
    folder = registry.folder_of(registry.MINILM)
    assert folder is not None
    settings = _settings(
        tmp_path,
        {
            "house": {"modality": "text", "source": {"folder": str(folder)}, "licence": "own"},
            "far": {
                "modality": "text",
                "source": {"hub": "org/name", "revision": "abc"},
                "licence": "MIT",
                "width": 8,
                "blocks": 2,
                "parameters": 100,
                "max_tokens": 64,
            },
        },
    )
    house = registry.find(settings, "house")
    assert (house.width, house.blocks, house.max_tokens) == (384, 6, 512)
    assert house.parameters > 22_000_000
    far = registry.find(settings, "far")
    assert far.source == HubSource("org/name", "abc")
    assert far.revision == "abc"
    assert registry.folder_of(far) is None
    assert "minilm" in registry.entries(settings)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"x": {}}',
        '{"x": {"modality": "smell", "source": {"folder": "/none"}, "licence": "", "width": 1, "blocks": 1}}',
    ],
)
def test_broken_file_is_a_clear_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidBaseModelsFile, match=r"bases\.json"):
        registry.entries(_settings(tmp_path, content))


@pytest.mark.parametrize("source", [WheelSource("no_such_wheel_here"), FolderSource(Path("/no/such/folder"))])
def test_unreachable_base_says_how_to_mend_it(source: WheelSource | FolderSource) -> None:
    entry = BackboneEntry("gone", "text", source, "MIT", 8, 2, 1, 64)
    with pytest.raises(BaseModelUnreachable, match=r"Install it|Point the entry"):
        registry.folder_of(entry)


def test_registry_needs_no_torch() -> None:
    code = "import sys, models.backbones.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_base_is_checked_without_loading_it(tmp_path: Path) -> None:
    registry.check(registry.MINILM)
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    entry = BackboneEntry("half", "image", FolderSource(folder), "MIT", 8, 2, 1, 0)
    with pytest.raises(BaseModelUnreachable, match=r"no model\.safetensors"):
        registry.check(entry)
    (folder / "model.safetensors").touch()
    with pytest.raises(BaseModelUnreachable, match=r"preprocessor_config\.json"):
        registry.check(entry)
    (folder / "preprocessor_config.json").touch()
    registry.check(entry)


def test_a_hub_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from models.backbones import registry\n"
        "from models.backbones.registry import BackboneEntry, HubSource\n"
        "entry = BackboneEntry('far', 'text', HubSource('org/name', 'abc'), 'MIT', 8, 2, 1, 64)\n"
        "try:\n    registry.check(entry)\n"
        "except Exception as error:\n    print(error.code, 'torch' in sys.modules, error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.startswith("base_model_unreachable False The base model 'far' cannot be loaded")


def test_the_default_base_is_the_first_that_reads_the_modality(tmp_path: Path) -> None:
    with pytest.raises(NoBaseModel, match="GRAFT_BASE_MODELS_FILE"):
        registry.default_for(Settings(), "audio")
    assert registry.default_for(Settings(), "image").name == "mobilenet-v2"
    sizes = {"licence": "MIT", "width": 8, "blocks": 2, "source": {"folder": "/none"}}
    settings = _settings(
        tmp_path,
        {
            "ears": {"modality": "audio", **sizes},
            "eyes": {"modality": "image", **sizes},
            "more-eyes": {"modality": "image", **sizes},
        },
    )
    assert registry.default_for(settings, "image").name == "eyes"
    assert registry.default_for(settings, "audio").name == "ears"
    assert registry.default_for(settings, "text").name == "minilm"


def test_no_base_is_called_auto(tmp_path: Path) -> None:
    fields = {"modality": "text", "source": {"folder": "/none"}, "licence": "MIT", "width": 8, "blocks": 2}
    with pytest.raises(InvalidBaseModelsFile, match="leave the choice to us"):
        registry.entries(_settings(tmp_path, {"auto": fields}))


def test_sizes_must_be_stated_where_they_cannot_be_read(tmp_path: Path) -> None:
    fields = {"modality": "text", "source": {"hub": "org/never-downloaded", "revision": "abc"}, "licence": "MIT"}
    with pytest.raises(InvalidBaseModelsFile, match="needs width and blocks"):
        registry.entries(_settings(tmp_path, {"far": fields}))
