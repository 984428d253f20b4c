"""What stands before a request of a version that writes: its system message and its examples. JSON in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.artifacts.errors import CorruptArtifact
from models.artifacts.manifest import Manifest

KEY = "generation"  # of the manifest's details
Message = Mapping[str, Any]
Form = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A version's own messages: `system` for requests that bring none, `examples` of a question and its answer each.

    `form` is how it was taught: by `chat`s (a bare prompt is then a user's message), or by the next words of a `text`.
    """

    strategy: str = "zero-shot"
    system: str | None = None
    examples: tuple[tuple[Message, ...], ...] = ()
    form: Form = "chat"

    def before(self, messages: Sequence[Message]) -> list[Message]:
        """Return a request's messages with the version's own in front of them."""
        own = [message for message in messages if message.get("role") in ("system", "developer")]
        rest = [message for message in messages if message.get("role") not in ("system", "developer")]
        if not own and self.system is not None:
            own = [{"role": "system", "content": self.system}]
        return [*own, *(message for example in self.examples for message in example), *rest]

    def as_details(self) -> dict[str, Any]:
        """Return the entry of a manifest's details."""
        examples = [[dict(message) for message in example] for example in self.examples]
        return {KEY: {"strategy": self.strategy, "system": self.system, "examples": examples, "form": self.form}}

    @classmethod
    def of(cls, manifest: Manifest) -> Prompt:
        """Return what `as_details` wrote; nothing of its own for a version without. Raises CorruptArtifact."""
        try:
            values = manifest.details.get(KEY) or {}
            return cls(
                str(values.get("strategy", manifest.strategy)),
                values.get("system"),
                tuple(tuple(dict(message) for message in example) for example in values.get("examples", ())),
                "text" if values.get("form") == "text" else "chat",
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise CorruptArtifact(reason="its messages cannot be read") from error
