"""What trains: low-rank products beside every linear layer of the base, or whole blocks of a copy of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.artifacts.parts import BlockWeights, LowRankWeights, Part
from models.backbones.decoder import LINEAR_LAYERS, Attend, Decoder, plain
from models.backbones.writing import DecoderBackbone
from models.learning.contract.errors import Stopped
from models.learning.generation import token_losses
from models.learning.generation.packing import PackedRows

# Activations of a longer pass are computed again when gradients need them: 30 blocks keep 0.6 MB of each token.
_CHECKPOINTED_TOKENS = 4_096
_ALPHA = 2.0  # the product's scale, in ranks: PEFT's `lora_alpha` is the rank times this


class WritingNetwork:
    """A decoder and the values that train, all in fp32. The base's own weights are shared, never written."""

    def __init__(self, decoder: Decoder, values: Mapping[str, Tensor], *, rank: int = 0, first_block: int = 0) -> None:
        self.decoder = decoder
        self.values = dict(values)
        self.rank = rank
        self.first_block = first_block
        self._pairs: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        if rank:
            for block in range(len(decoder.blocks)):
                for name in LINEAR_LAYERS:
                    key = f"{block}.{name}"
                    self._pairs[block, name] = self.values[f"{key}.A"], self.values[f"{key}.B"]

    def hidden(self, packed: PackedRows, *, stop: Callable[[], bool] = lambda: False) -> Tensor:
        """Return the last hidden state before each token that is to be foretold, (M, D).

        Asks `stop` in every block: on a busy machine a row of thousands of tokens takes minutes. Raises Stopped.
        """
        decoder = self.decoder

        def attend(block: int, query_NHd: Tensor, key_NGd: Tensor, value_NGd: Tensor) -> Tensor:
            if stop():
                raise Stopped
            return packed.attend(block, query_NHd, key_NGd, value_NGd)

        hidden_ND = decoder.embed(packed.tokens_N)
        if torch.is_grad_enabled() and len(packed.tokens_N) > _CHECKPOINTED_TOKENS:
            for block in range(len(decoder.blocks)):
                hidden_ND = checkpoint(self._one, packed, attend, hidden_ND, block, use_reentrant=False)
        else:
            hidden_ND = decoder.run(hidden_ND, packed.positions_N, attend, self.project)
        return hidden_ND.index_select(0, packed.before_M)

    def losses(self, packed: PackedRows, *, stop: Callable[[], bool] = lambda: False) -> tuple[Tensor, Tensor]:
        """Return each token's negative log-probability, (M,) float32, and whether it is the likeliest, (M,) bool.

        Only these tokens are scored. Raises Stopped.
        """
        hidden_MD = self.hidden(packed, stop=stop)
        return token_losses.compute(self.decoder.logits, hidden_MD, packed.targets_M, stop=stop)

    def project(self, block: int, name: str, linear: nn.Linear, input_NI: Tensor) -> Tensor:
        """Apply one of the base's layers, with the low-rank product beside it if there is one."""
        output_NO = plain(block, name, linear, input_NI)
        if not self.rank:
            return output_NO
        down_RI, up_OR = self._pairs[block, name]
        narrow_NR = F.linear(input_NI, down_RI.to(input_NI.dtype))
        return output_NO + F.linear(narrow_NR, (up_OR * _ALPHA).to(input_NI.dtype))

    def parts(self, dtype: torch.dtype) -> tuple[Part, ...]:
        """Return the artifact's parts, in the number format in which they are served."""
        if self.rank:
            pairs = {
                key: (down.detach().to(dtype), (up.detach() * _ALPHA).to(dtype))
                for key, (down, up) in self._pairs.items()
            }
            return (LowRankWeights(pairs),)
        states: dict[int, dict[str, Tensor]] = {}
        for block in range(self.first_block, len(self.decoder.blocks)):
            state = self.decoder.blocks[block].state_dict()
            states[block] = {name: tensor.detach().to(dtype) for name, tensor in state.items()}
        return (BlockWeights(states),)

    def _one(self, packed: PackedRows, attend: Attend, hidden_ND: Tensor, block: int) -> Tensor:
        return self.decoder.run(hidden_ND, packed.positions_N, attend, self.project, start=block, stop=block + 1)


def frozen(backbone: DecoderBackbone) -> WritingNetwork:
    """Return the base as it is."""
    return WritingNetwork(backbone.network, {})


def low_rank(backbone: DecoderBackbone, rank: int, *, seed: int) -> WritingNetwork:
    """Return the base with products of this rank beside all its linear layers; they add nothing yet."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Tensor] = {}
    for block, layer in enumerate(backbone.network.blocks):
        for name in LINEAR_LAYERS:
            height, width = layer.get_submodule(name).get_parameter("weight").shape
            bound = 1 / math.sqrt(width)  # as PEFT begins
            down = torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
            values[f"{block}.{name}.A"] = down.to(backbone.device).requires_grad_(True)
            values[f"{block}.{name}.B"] = torch.zeros(height, rank, device=backbone.device).requires_grad_(True)
    return WritingNetwork(backbone.network, values, rank=rank)


def own_blocks(backbone: DecoderBackbone, trainable: int) -> WritingNetwork:
    """Return a copy of the base whose top blocks train, in fp32. Embeddings and the scoring layer stay the base's."""
    decoder = backbone.trainable_copy()
    first = backbone.blocks - trainable
    values: dict[str, Tensor] = {}
    for block in range(first, backbone.blocks):
        for name, parameter in decoder.blocks[block].named_parameters():
            values[f"{block}.{name}"] = parameter.requires_grad_(True)
    return WritingNetwork(decoder, values, first_block=first)


def of_parts(backbone: DecoderBackbone, parts: tuple[Part, ...]) -> WritingNetwork:
    """Return the network of a published version."""
    values: dict[str, Tensor] = {}
    for part in parts:
        if isinstance(part, LowRankWeights):
            for (block, name), (down, up) in part.pairs.items():
                values[f"{block}.{name}.A"] = down.float().to(backbone.device)
                values[f"{block}.{name}.B"] = up.float().to(backbone.device) / _ALPHA
        elif isinstance(part, BlockWeights):
            decoder = backbone.trainable_copy()
            for block, state in part.states.items():
                decoder.blocks[block].load_state_dict({name: tensor.float() for name, tensor in state.items()})
            return WritingNetwork(decoder, {}, first_block=min(part.states))
    rank = next((len(value) for name, value in values.items() if name.endswith(".A")), 0)
    return WritingNetwork(backbone.network, values, rank=rank)
