"""A version's own messages: through a manifest and back, and before a request's."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.prompt import Prompt

ASKED = {"role": "user", "content": "?"}
EXAMPLE = ({"role": "user", "content": "Größe"}, {"role": "assistant", "content": "M"})
PROMPT = Prompt("few-shot", "Be brief.", (EXAMPLE,))


def _manifest(details: dict[str, object]) -> Manifest:
    return Manifest("text-generation", "few-shot", (), (), "smollm2", "abc", details=details)


def test_a_version_without_weights_keeps_its_messages(tmp_path: Path) -> None:
    write_artifact(Artifact(_manifest({**PROMPT.as_details()}), ()), tmp_path)
    found = read_artifact(tmp_path)
    assert found.parts == ()
    assert Prompt.of(found.manifest) == PROMPT


def test_a_request_comes_after_the_versions_messages() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert PROMPT.before([ASKED]) == [system, *EXAMPLE, ASKED]


def test_a_requests_own_system_message_counts() -> None:
    system = {"role": "system", "content": "Be long."}
    assert PROMPT.before([system, ASKED]) == [system, *EXAMPLE, ASKED]


def test_messages_that_cannot_be_read_are_a_corrupt_artifact() -> None:
    with pytest.raises(CorruptArtifact):
        Prompt.of(_manifest({"generation": {"examples": 3}}))
