"""Errors of artifacts."""

from __future__ import annotations

from models.errors import GraftError


class CorruptArtifact(GraftError):
    """An artifact's files are not what its manifest says."""

    message = "The artifact is corrupt: {reason}"

    @property
    def reason(self) -> str:
        """The fault, in a few words."""
        return str(self.data["reason"])
