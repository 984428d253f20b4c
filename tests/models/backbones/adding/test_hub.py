"""Models of a hub: pinned to a commit, and refused with what mends it. The client reads its settings when imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.backbones import text_checkpoints
from tests.models.backbones.adding import hub_server

_SCRIPT = """
import json, sys
from models.backbones.adding import hub
from models.errors import GraftError

found = []
for repository, revision in json.loads(sys.argv[1]):
    try:
        source, folder, note = hub.fetch(repository, revision)
        found.append([source.revision, sorted(path.name for path in folder.iterdir()), note])
    except GraftError as error:
        found.append([error.code, str(error), None])
print(json.dumps(found))
"""


def _fetch(asked: list[tuple[str, str | None]], home: Path, **environment: str) -> list[list]:
    names = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(asked)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=names)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    text_checkpoints.write(folder)
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage: de\n---\n# Tiny\n")
    (folder / "modeling_own.py").write_text("raise SystemExit('code of a repository was run')\n")
    return folder


def test_a_hub_is_asked_for_a_commit_and_refusals_say_what_to_do(checkpoint, tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (pickled / name).write_text("{}")
    asked = [
        ("acme/tiny", None),
        ("acme/tiny", "v9"),
        ("acme/none", None),
        (hub_server.GATED, None),
        (hub_server.BROKEN, None),
        ("acme/pickled", None),
    ]
    with hub_server.serving({"acme/tiny": checkpoint, "acme/pickled": pickled}) as address:
        tiny, revision, unknown, gated, broken, unsafe = _fetch(asked, tmp_path / "home", HF_ENDPOINT=address)
    assert tiny[0] == hub_server.COMMIT
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(tiny[1])
    assert "modeling_own.py" not in tiny[1]
    assert revision[0] == "model_not_on_hub"
    assert "at the revision 'v9'" in revision[1]
    assert unknown[0] == "model_not_on_hub"
    assert address in unknown[1]
    assert gated[0] == "gated_model"
    assert f"{address}/{hub_server.GATED}" in gated[1]
    assert broken[0] == "hub_unreachable"
    assert "it answers 503" in broken[1]
    assert unsafe[0] == "no_safe_weights"
    assert "pytorch_model.bin" in unsafe[1]

    # The hub is gone: the cache has the one, and nothing of the other.
    here, absent = _fetch([("acme/tiny", None), ("acme/other", None)], tmp_path / "home", HF_ENDPOINT=address)
    assert here[0] == hub_server.COMMIT
    assert "was not asked" in here[2]
    assert absent[0] == "hub_unreachable"
    assert "no connection" in absent[1]


def test_offline_mode_is_named(tmp_path):
    [[code, message, _]] = _fetch([("acme/tiny", None)], tmp_path, HF_HUB_OFFLINE="1")
    assert code == "hub_unreachable"
    assert "HF_HUB_OFFLINE is set" in message
