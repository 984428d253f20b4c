"""`graft base-models retire` and `unretire`: which file they write, and where they write none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.local.folder import DataFolder


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GRAFT_DATA_DIR", "GRAFT_BASE_MODELS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def _graft(*words: str) -> Result:
    return CliRunner().invoke(app, ["base-models", *words])


def test_the_file_that_was_written_is_named(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    path = folder.path / "base-models.json"
    retired = _graft("retire", "minilm", "--data", "data")
    assert retired.stdout.startswith(f"minilm is retired in {path}: "), retired.stderr
    assert json.loads(path.read_text()) == {"minilm": {"retired": True}}
    back = _graft("unretire", "minilm", "--data", "data")
    assert back.stdout == f"minilm takes jobs again, as {path} says.\n", back.stderr
    assert json.loads(path.read_text()) == {}


@pytest.mark.parametrize("words", [(), ("--data", "elsewhere")])
@pytest.mark.parametrize("command", ["retire", "unretire"])
def test_a_folder_that_no_server_reads_is_refused_and_not_made(
    tmp_path: Path, command: str, words: tuple[str, ...]
) -> None:
    """It was made, and the answer was that the base is retired."""
    refused = _graft(command, "minilm", *words)
    assert refused.exit_code == 1
    assert refused.stdout == ""
    folder = tmp_path / (words[-1] if words else "graft-data")
    assert f"{folder} is not the folder of a Graft: nothing was changed." in refused.stderr
    assert "--data" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_setting_names_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bases.json"
    path.write_text("{}")
    monkeypatch.setenv("GRAFT_BASE_MODELS_FILE", str(path))
    assert f"minilm is retired in {path}: " in _graft("retire", "minilm").stdout
    assert json.loads(path.read_text()) == {"minilm": {"retired": True}}
