"""Tokens of rows at upload, as the base that writes counts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.datasets.errors import OpenAnswers
from models.services import files
from models.services.files import NewFile
from models.settings import Settings
from tests.models.backbones import decoder_checkpoints


def _settings(tmp_path: Path, source: Path) -> Settings:
    entry = {"modality": "text", "kind": "decoder", "source": {"folder": str(source)}, "licence": "none"}
    (tmp_path / "bases.json").write_text(json.dumps({"tiny-writer": {**entry, "width": 48, "blocks": 3}}))
    return Settings(base_models_file=tmp_path / "bases.json", generation_base_model="tiny-writer")


def _chats(tmp_path: Path, lengths: list[int]) -> NewFile:
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"q{at}"}, {"role": "assistant", "content": f"{at}" + "a" * length}]}
        for at, length in enumerate(lengths)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return NewFile(path, path.name)


def test_rows_beyond_the_context_are_named(tmp_path: Path) -> None:
    decoder_checkpoints.write(tmp_path / "base")
    found = files.inspect(_settings(tmp_path, tmp_path / "base"), _chats(tmp_path, [3, 900, 5, 7, 600]))
    notes = {warning["code"]: warning for warning in found.warnings}
    assert notes["truncated"]["rows"] == [2, 5]
    assert notes["tokens"]["longest"] > 900


def test_counts_follow_where_the_base_is_not_unpacked_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_DATA_DIR", str(tmp_path))
    found = files.inspect(Settings(generation_base_model="smollm2", data_dir=tmp_path), _chats(tmp_path, [3, 4, 5, 6]))
    (note,) = [warning for warning in found.warnings if warning["code"].startswith("tokens")]
    assert note["code"] == "tokens_not_counted"
    assert "when a job begins" in note["message"]


def test_texts_that_no_base_here_can_write_are_refused_with_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(OpenAnswers, match="needs a base model that writes"):
        files.inspect(_settings(tmp_path, tmp_path / "nowhere"), _chats(tmp_path, [3, 4, 5, 6]))
