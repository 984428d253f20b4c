"""The parts of which an artifact's weights are made. The only place where tensors have names.

A part owns a prefix: the tensor `head.bias` is called `bias` in the part `head`. A new part is a class here, or beside
the learner that needs it, and a line in `PARTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Part(Protocol):
    """Tensors that belong together."""

    prefix: ClassVar[str]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Part:
        """Return the part of such tensors; raises KeyError or ValueError if they are not its own."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """A linear head of K outputs on F features."""

    prefix: ClassVar[str] = "head"
    weight_KF: Tensor
    bias_K: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return {"weight": self.weight_KF, "bias": self.bias_K}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> HeadWeights:
        """Return the part of such tensors; raises KeyError or ValueError."""
        head = cls(tensors["weight"], tensors["bias"])
        if head.weight_KF.dim() != 2 or head.bias_K.shape != head.weight_KF.shape[:1]:
            raise ValueError("the head does not have one bias per output")
        return head


@dataclass(frozen=True, slots=True, eq=False)
class NgramWeights:
    """A linear head of K outputs on V n-grams of the text, added to the logits of the head."""

    prefix: ClassVar[str] = "lexical"
    buckets_V: Tensor
    idf_V: Tensor
    weight_VK: Tensor
    factor: Tensor  # (1,), of the weights

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return {"buckets": self.buckets_V, "idf": self.idf_V, "weight": self.weight_VK, "factor": self.factor}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> NgramWeights:
        """Return the part of such tensors; raises KeyError."""
        return cls(tensors["buckets"], tensors["idf"], tensors["weight"], tensors["factor"])


@dataclass(frozen=True, slots=True, eq=False)
class LowRankWeights:
    """Low-rank products beside linear layers of the base."""

    prefix: ClassVar[str] = "lora"
    pairs: Mapping[tuple[int, str], tuple[Tensor, Tensor]]  # (block, module) → (down_RI, up_OR), the scaling in `up`

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        sides = {"A": 0, "B": 1}
        return {
            f"{block}.{module}.{side}": pair[at]
            for (block, module), pair in self.pairs.items()
            for side, at in sides.items()
        }

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> LowRankWeights:
        """Return the part of such tensors; raises KeyError or ValueError."""
        pairs: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        for name in tensors:
            block, _, rest = name.partition(".")
            module, _, _ = rest.rpartition(".")
            pairs[int(block), module] = tensors[f"{block}.{module}.A"], tensors[f"{block}.{module}.B"]
        return cls(pairs)


@dataclass(frozen=True, slots=True, eq=False)
class BlockWeights:
    """Whole blocks in the place of the base's."""

    prefix: ClassVar[str] = "block"
    states: Mapping[int, Mapping[str, Tensor]]  # block → its parameters and buffers by name

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return {f"{block}.{name}": tensor for block, state in self.states.items() for name, tensor in state.items()}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> BlockWeights:
        """Return the part of such tensors; raises ValueError."""
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            block, _, parameter = name.partition(".")
            states.setdefault(int(block), {})[parameter] = tensor
        return cls(dict(sorted(states.items())))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingWeights:
    """Embeddings (whatever comes before the blocks), in the place of the base's."""

    prefix: ClassVar[str] = "embeddings"
    state: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return dict(self.state)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> EmbeddingWeights:
        """Return the part of such tensors."""
        return cls(dict(tensors))


@dataclass(frozen=True, slots=True, eq=False)
class DetectorWeights:
    """The pyramid and the head of a model that finds boxes; its layout is in the manifest."""

    prefix: ClassVar[str] = "detector"
    state: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names below the prefix."""
        return dict(self.state)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> DetectorWeights:
        """Return the part of such tensors."""
        return cls(dict(tensors))


PARTS: dict[str, type[Part]] = {
    part.prefix: part
    for part in (HeadWeights, NgramWeights, LowRankWeights, BlockWeights, EmbeddingWeights, DetectorWeights)
}


def pack(parts: Iterable[Part]) -> dict[str, Tensor]:
    """Return all tensors of some parts by their full names."""
    return {f"{part.prefix}.{name}": tensor for part in parts for name, tensor in part.tensors().items()}


def unpack(tensors: Mapping[str, Tensor]) -> tuple[Part, ...]:
    """Return the parts that `pack` was given; raises KeyError or ValueError for tensors that are not those of parts."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, own = name.partition(".")
        grouped.setdefault(prefix, {})[own] = tensor
    return tuple(PARTS[prefix].read(own) for prefix, own in grouped.items())


def is_finite(parts: Iterable[Part]) -> bool:
    """Return whether every number of some parts is one."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in pack(parts).values())
