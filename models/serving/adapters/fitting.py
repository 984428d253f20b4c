"""Artifacts that do not fit the base that serves them: one error, whatever their files lack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact
from models.learning.contract.errors import UnsupportedTask
from models.services.catalog import ResolvedVersion
from models.serving.errors import ArtifactBroken, DeviceMemoryFull

# What reading parts and building layers of them raises, where they are of another shape or kind than they should be.
_MISFITS = (CorruptArtifact, KeyError, ValueError, TypeError, RuntimeError, AttributeError, UnsupportedTask)


@contextmanager
def fitting(artifact: Artifact, version: ResolvedVersion, revision: str) -> Iterator[None]:
    """Check that a version was trained on the base's revision; what its assembly raises then becomes an answer.

    Raises ArtifactBroken for parts that do not fit, and DeviceMemoryFull.
    """
    try:
        trained_on = artifact.manifest.base_revision
        if trained_on != revision:
            raise ValueError(f"it was trained on revision {trained_on[:12]} of its base, here is {revision[:12]}")
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryFull(what=f"the model '{version.full_name}'") from error
    except _MISFITS as error:
        raise ArtifactBroken(
            model=version.full_name, version=version.number, reason=f"its content does not fit ({error})"
        ) from error
