"""Networks that write: a stack of causal blocks like Llama's, on rows that lie end to end without padding.

How a token attends to those before it is the caller's: over packed rows in training, over blocks of kept keys and
values in serving. So is what is added to the base's linear layers: nothing, one version's low-rank products, or those
of many versions in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

# (block, query_NHd, key_NGd, value_NGd) → (N, H, d): queries and keys are rotated; G heads of keys for H of queries.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
# (block, the layer's name as in PEFT, the base's layer, input_NI) → output_NO
Project = Callable[[int, str, nn.Linear, Tensor], Tensor]

LINEAR_LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of the network."""

    blocks: int
    width: int
    heads: int
    key_value_heads: int
    head_width: int
    vocabulary: int
    max_tokens: int
    tied: bool  # the same table reads and writes tokens
    ends: tuple[int, ...]  # tokens that end an answer


def plain(block: int, name: str, linear: nn.Linear, input_NI: Tensor) -> Tensor:  # noqa: ARG001  (a Project)
    """Apply the base's layer, nothing added."""
    return F.linear(input_NI, linear.weight, linear.bias)


class RmsNorm(nn.Module):
    """Root mean square normalisation, computed in fp32."""

    def __init__(self, weight_D: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_D, requires_grad=False)
        self._epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if hidden.dtype is torch.float32:
            return F.rms_norm(hidden, self.weight.shape, self.weight, self._epsilon)
        return self.weight * F.rms_norm(hidden.float(), self.weight.shape, None, self._epsilon).to(hidden.dtype)


class Attention(nn.Module):
    """The linear layers of attention, and the norms of queries and keys where the base has them."""

    def __init__(self, layer: Any, epsilon: float) -> None:
        super().__init__()
        self.q_proj, self.k_proj = layer.q_proj, layer.k_proj
        self.v_proj, self.o_proj = layer.v_proj, layer.o_proj
        norms = (getattr(layer, "q_norm", None), getattr(layer, "k_norm", None))
        self.q_norm, self.k_norm = (None if norm is None else RmsNorm(norm.weight.data, epsilon) for norm in norms)


class GatedMlp(nn.Module):
    """The linear layers of the gated network in each block."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = layer.gate_proj, layer.up_proj, layer.down_proj


class DecoderBlock(nn.Module):
    """One block; its parameters have the names that they have in the base's own files."""

    def __init__(self, layer: Any, config: DecoderConfig, epsilon: float) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(layer.input_layernorm.weight.data, epsilon)
        self.self_attn = Attention(layer.self_attn, epsilon)
        self.post_attention_layernorm = RmsNorm(layer.post_attention_layernorm.weight.data, epsilon)
        self.mlp = GatedMlp(layer.mlp)
        self._width = config.head_width

    def forward(
        self, block: int, hidden_ND: Tensor, rotation: tuple[Tensor, Tensor], attend: Attend, project: Project
    ) -> Tensor:
        """Return the hidden state after this block, the `block`-th."""
        attention, mlp = self.self_attn, self.mlp
        normed_ND = self.input_layernorm(hidden_ND)

        def heads(name: str, linear: nn.Linear) -> Tensor:
            projected_NO = project(block, f"self_attn.{name}", linear, normed_ND)
            return projected_NO.view(hidden_ND.shape[0], -1, self._width)

        query_NHd, key_NGd = heads("q_proj", attention.q_proj), heads("k_proj", attention.k_proj)
        value_NGd = heads("v_proj", attention.v_proj)
        if attention.q_norm is not None and attention.k_norm is not None:
            query_NHd, key_NGd = attention.q_norm(query_NHd), attention.k_norm(key_NGd)
        attended_NHd = attend(block, _rotate(query_NHd, rotation), _rotate(key_NGd, rotation), value_NGd)
        hidden_ND = hidden_ND + project(block, "self_attn.o_proj", attention.o_proj, attended_NHd.flatten(1))
        normed_ND = self.post_attention_layernorm(hidden_ND)
        gate_NI = project(block, "mlp.gate_proj", mlp.gate_proj, normed_ND)
        up_NI = project(block, "mlp.up_proj", mlp.up_proj, normed_ND)
        return hidden_ND + project(block, "mlp.down_proj", mlp.down_proj, F.silu(gate_NI) * up_NI)


class Decoder(nn.Module):
    """Embeddings, blocks, and the layer that scores the next token. N tokens of many rows lie end to end."""

    def __init__(self, model: Any, config: DecoderConfig) -> None:
        """Take the weights of one of transformers' causal language models, which is not to be used again."""
        super().__init__()
        epsilon = float(model.config.rms_norm_eps)
        self.config = config
        self.embeddings = model.model.embed_tokens
        self.blocks = nn.ModuleList(DecoderBlock(layer, config, epsilon) for layer in model.model.layers)
        self.norm = RmsNorm(model.model.norm.weight.data, epsilon)
        self.head = model.lm_head
        rotary = model.model.rotary_emb
        # Not a buffer: converting the network to bf16 must not round it.
        self._frequencies = {torch.device("cpu"): rotary.inv_freq.float().clone()}
        self._rotation_scale = float(rotary.attention_scaling)

    def embed(self, tokens_N: Tensor) -> Tensor:
        """Return the hidden state before the first block, (N, D)."""
        embedded_ND: Tensor = F.embedding(tokens_N, self.embeddings.weight)
        return embedded_ND

    def run(
        self,
        hidden_ND: Tensor,
        positions_N: Tensor,
        attend: Attend,
        project: Project = plain,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> Tensor:
        """Run blocks `start` to `stop - 1`, all of them if nothing is said; positions count from 0 in each row."""
        rotation = self._rotation(positions_N, hidden_ND.dtype)
        for block in range(start, len(self.blocks) if stop is None else stop):
            hidden_ND = self.blocks[block](block, hidden_ND, rotation, attend, project)
        return hidden_ND

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return the scores of the next token, (N, V)."""
        normed_ND = self.norm(hidden_ND)
        return F.linear(normed_ND, self.head.weight, self.head.bias)

    def _rotation(self, positions_N: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of each position's angles, (N, 1, d)."""
        place = positions_N.device
        if place not in self._frequencies:
            self._frequencies[place] = self._frequencies[torch.device("cpu")].to(place)
        angles_Nd = positions_N.float()[:, None] * self._frequencies[place]
        angles_N1d = torch.cat([angles_Nd, angles_Nd], dim=-1)[:, None]
        scale = self._rotation_scale
        return (angles_N1d.cos() * scale).to(dtype), (angles_N1d.sin() * scale).to(dtype)


def _rotate(heads_NHd: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of halves by its position's angle (rotary embedding)."""
    cosine_N1d, sine_N1d = rotation
    first, second = heads_NHd.chunk(2, dim=-1)
    return heads_NHd * cosine_N1d + torch.cat([-second, first], dim=-1) * sine_N1d
