"""The part of an artifact that the toy learner writes: the training rows themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourRows:
    """N training rows: the token ids of each, its text in UTF-8, and the index of its label."""

    prefix: ClassVar[str] = "neighbours"
    ids_T: Tensor
    id_ends_N: Tensor
    text_B: Tensor
    text_ends_N: Tensor
    labels_N: Tensor

    @classmethod
    def of(cls, token_ids: Sequence[Sequence[int]], texts: Sequence[str], labels: Sequence[int]) -> NeighbourRows:
        """Return the part of tokenised rows."""
        encoded = [text.encode() for text in texts]
        return cls(
            torch.tensor([token for ids in token_ids for token in ids], dtype=torch.int32),
            torch.tensor([len(ids) for ids in token_ids]).cumsum(0),
            torch.tensor(list(b"".join(encoded)), dtype=torch.uint8),
            torch.tensor([len(text) for text in encoded]).cumsum(0),
            torch.tensor(labels),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return {
            "ids": self.ids_T,
            "id_ends": self.id_ends_N,
            "text": self.text_B,
            "text_ends": self.text_ends_N,
            "labels": self.labels_N,
        }

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> NeighbourRows:
        """Return the part of such tensors; raises KeyError."""
        return cls(*(tensors[name] for name in ("ids", "id_ends", "text", "text_ends", "labels")))

    def token_sets(self) -> list[frozenset[int]]:
        """Return each row's set of tokens."""
        ends = self.id_ends_N.tolist()
        ids = self.ids_T.tolist()
        return [frozenset(ids[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def texts(self) -> list[str]:
        """Return each row's text."""
        ends, text = self.text_ends_N.tolist(), bytes(self.text_B.tolist())
        return [text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
