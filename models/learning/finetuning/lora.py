"""Low-rank adaptation (arXiv:2106.09685): y = x Wᵀ + b + (x Aᵀ) Bᵀ · scale, only A and B trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.artifacts.parts import LowRankWeights

# Twice the rank's inverse root keeps the update's size the same whatever the rank (arXiv:2312.03732).
_SCALE = 2.0


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank product on the side. `lora_up` starts at zero: at first nothing changes."""

    def __init__(self, frozen: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.scale = _SCALE / rank**0.5
        down_RI = torch.randn(rank, frozen.in_features, generator=generator) * frozen.in_features**-0.5
        self.lora_down = nn.Parameter(down_RI.to(frozen.weight.device))
        self.lora_up = nn.Parameter(torch.zeros(frozen.out_features, rank, device=frozen.weight.device))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's output with the side path."""
        low = functional.linear(functional.linear(inputs, self.lora_down), self.lora_up * self.scale)
        output: Tensor = self.frozen(inputs) + low
        return output

    def merged_weight(self) -> Tensor:
        """Return the weight of a plain linear layer that computes the same."""
        weight: Tensor = self.frozen.weight + self.scale * (self.lora_up @ self.lora_down)
        return weight


def add(blocks: nn.ModuleList, rank: int, *, seed: int) -> None:
    """Put low-rank matrices beside every linear layer of every block, in place."""
    generator = torch.Generator().manual_seed(seed)
    for block in blocks:
        for name, module in list(block.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, leaf = name.rpartition(".")
                setattr(block.get_submodule(parent), leaf, LoraLinear(module, rank, generator))


def weights(blocks: nn.ModuleList, dtype: torch.dtype) -> LowRankWeights:
    """Return the matrices as an artifact holds them, the scaling folded into the second of each pair."""
    pairs: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
    for index, block in enumerate(blocks):
        for name, module in block.named_modules():
            if isinstance(module, LoraLinear):
                up_OR = module.lora_up.detach() * module.scale
                pairs[index, name] = module.lora_down.detach().to(dtype), up_OR.to(dtype)
    return LowRankWeights(pairs)


def merge(blocks: nn.ModuleList, saved: LowRankWeights) -> None:
    """Add saved matrices to the weights of plain blocks, in place."""
    with torch.no_grad():
        for (index, name), (down_RI, up_OR) in saved.pairs.items():
            weight = blocks[index].get_submodule(name).get_parameter("weight")
            weight.add_((up_OR.float() @ down_RI.float()).to(weight))
