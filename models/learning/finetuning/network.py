"""The network that is fine-tuned: a copy of the base with a linear head on its pooled features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.artifacts.parts import BlockWeights, EmbeddingWeights, Part
from models.backbones import feature_names
from models.backbones.backbone import Encoder
from models.backbones.loading import Backbone
from models.learning.adamw import Rate
from models.learning.finetuning import lora
from models.learning.finetuning.strategies import TrainingConfig
from models.learning.heads.linear import Floats, Head

_RUNNING_STATISTICS = (nn.modules.batchnorm._BatchNorm,)


class Network(nn.Module):
    """Encoder and head. The head works on standardised features, where one learning rate suits all of its weights.

    The encoder computes in the precision in which it will be served, so that what is measured here is what customers
    get; the optimiser moves `masters`, fp32 copies of all that trains, and `take_masters` rounds them into the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        features: Sequence[str],
        head: Head,
        *,
        mean_F: Tensor,
        scale_F: Tensor,
        first_block: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.features = tuple(features)
        self.first_block = first_block
        self._wanted = [(name.kind, name.depth) for name in map(feature_names.parse, features)]
        self._deepest = max(depth for _, depth in self._wanted)
        self._frozen = min(first_block, self._deepest)
        self.mean_F = nn.Buffer(mean_F)
        self.scale_F = nn.Buffer(scale_F)
        weight_KF = torch.from_numpy(head.weight_KF).to(mean_F)
        standard_KF, bias_K = self.standardised_head(weight_KF, torch.from_numpy(head.bias_K).to(mean_F))
        self.head_weight, self.head_bias = nn.Parameter(standard_KF), nn.Parameter(bias_K)
        # The parameters that compute, by name: as in `masters`, in serving precision.
        self.trained = {name: value for name, value in self.named_parameters() if value.requires_grad}
        self.masters = {name: value.detach().clone() for name, value in self.trained.items()}

    def take_masters(self) -> None:
        """Round the masters into the parameters that compute."""
        with torch.no_grad():
            torch._foreach_copy_(list(self.trained.values()), list(self.masters.values()))

    def forward(self, batch: Any) -> Tensor:
        """Return logits_BK in float32."""
        return self.answer(self.standardise(batch, *self.begin(batch)))

    def begin(self, batch: Any) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """Return the hidden state below the first block that trains, and the features up to there; without a graph."""
        below = [wanted for wanted in self._wanted if wanted[1] <= self._frozen]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.embeddings_train):
            hidden, tapped = self.encoder.run(
                batch, self.encoder.embed(batch), 0, self._frozen, taps={depth for _, depth in below}
            )
            return hidden, {(kind, depth): self.encoder.pool(tapped[depth], batch, kind) for kind, depth in below}

    def standardise(self, batch: Any, hidden: Tensor, pooled: Mapping[tuple[str, int], Tensor]) -> Tensor:
        """Return standard_BF, the features as the head sees them. Of the batch only its layout is looked at."""
        above = [wanted for wanted in self._wanted if wanted[1] > self._frozen]
        _, tapped = self.encoder.run(batch, hidden, self._frozen, self._deepest, taps={depth for _, depth in above})
        found = {
            **pooled,
            **{(kind, depth): self.encoder.pool(tapped[depth], batch, kind) for kind, depth in above},
        }
        pooled_BF = torch.cat([found[wanted] for wanted in self._wanted], dim=1)
        return (pooled_BF - self.mean_F) / self.scale_F

    def compared(self, standard_BF: Tensor) -> Tensor:
        """Return the features whose cosines say how alike rows are: the deepest mean as it was, else all of them.

        Maxima and shallow means point in much the same direction whatever the row is.
        """
        raw_BF = standard_BF * self.scale_F + self.mean_F
        for place, (kind, depth) in enumerate(self._wanted):
            if depth == self._deepest and kind.removeprefix(feature_names.UNIT) == "mean":
                return raw_BF.chunk(len(self._wanted), dim=1)[place]
        return raw_BF

    def answer(self, standard_BF: Tensor) -> Tensor:
        """Return the head's logits_BK."""
        return torch.addmm(self.head_bias, standard_BF, self.head_weight.T)

    @property
    def embeddings_train(self) -> bool:
        """True where the embeddings, before the blocks, train as well."""
        return next(self.encoder.embeddings.parameters()).requires_grad

    def replace_head(self, head: Head) -> None:
        """Take a head that was fitted to standardised features; the optimiser goes on from it."""
        self.masters["head_weight"].copy_(torch.from_numpy(head.weight_KF))
        self.masters["head_bias"].copy_(torch.from_numpy(head.bias_K))
        self.take_masters()

    def head(self) -> Head:
        """Return the head on raw features."""
        weight_KF, bias_K = self.raw_head()
        return Head(weight_KF.cpu().numpy(), bias_K.cpu().numpy())

    @torch.no_grad()
    def raw_head(self) -> tuple[Tensor, Tensor]:
        """Return weight_KF and bias_K of the head on raw features, on the network's device."""
        weight_KF = self.head_weight / self.scale_F
        return weight_KF, self.head_bias - weight_KF @ self.mean_F

    def standardised_head(self, weight_KF: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor]:
        """Return a head on raw features as it is on standardised ones: the inverse of `raw_head`."""
        return weight_KF * self.scale_F, bias_K + weight_KF @ self.mean_F

    def train_mode(self) -> None:
        """Switch to training mode, except for layers with running statistics: small data ruins those."""
        self.train()
        for module in self.modules():
            if isinstance(module, _RUNNING_STATISTICS):
                module.eval()


def build(
    backbone: Backbone, config: TrainingConfig, features: Sequence[str], head: Head, training_NF: Floats, *, seed: int
) -> Network:
    """Build a network that starts as base plus fitted head; only the strategy's parameters require gradients."""
    strategy = config.strategy
    encoder = backbone.trainable_copy()
    first = 0 if config.lora_rank or config.trainable_blocks is None else backbone.blocks - config.trainable_blocks
    if strategy.random_weights:
        _initialise(encoder, seed)
    encoder.requires_grad_(False)
    if config.lora_rank:
        lora.add(encoder.blocks, config.lora_rank, seed=seed)
    else:
        for block in encoder.blocks[first:]:
            block.requires_grad_(True)
        encoder.embeddings.requires_grad_(strategy.trainable_embeddings)
    _disable_dropout(encoder)
    encoder.to(backbone.device)
    features_NF = torch.from_numpy(training_NF)
    mean_F, deviation_F = features_NF.mean(0), features_NF.std(0)
    # A feature that hardly varies in the frozen base may well vary in the trained one: it must not become the loudest.
    scale_F = deviation_F.clamp(min=max(0.25 * float(deviation_F.median()), 1e-6))
    device = backbone.device
    network = Network(
        encoder,
        features,
        head,
        mean_F=mean_F.to(device),
        scale_F=scale_F.to(device),
        first_block=first,
    )
    encoder.to(backbone.dtype)  # after the masters were taken in fp32
    return network


def trained_values(network: Network) -> dict[str, Tensor]:
    """Return a copy of everything that trains, as it is now."""
    return {name: value.clone() for name, value in network.masters.items()}


def blend(network: Network, start: Mapping[str, Tensor], share: float) -> None:
    """Go back towards `start`, in place: 1 stays, 0 is the start. Of a low-rank product only one factor moves."""
    for name, value in network.masters.items():
        if not name.endswith("lora_down"):
            value.lerp_(start[name], 1.0 - share)
    network.take_masters()


def own_parts(network: Network, config: TrainingConfig, dtype: torch.dtype) -> tuple[Part, ...]:
    """Return the artifact's parts beside the head, in `dtype`, in which they are served."""
    blocks = network.encoder.blocks
    if config.lora_rank:
        return (lora.weights(blocks, dtype),)
    states = {
        index: {name: tensor.to(dtype) for name, tensor in blocks[index].state_dict().items()}
        for index in range(network.first_block, len(blocks))
    }
    if not config.strategy.trainable_embeddings:
        return (BlockWeights(states),)
    parameters = network.encoder.embeddings.named_parameters()
    return BlockWeights(states), EmbeddingWeights({name: value.detach().to(dtype) for name, value in parameters})


def learning_rates(network: Network, config: TrainingConfig, weight_decay: float) -> dict[str, Rate]:
    """Return AdamW's rates of the masters: they fall from the top block down, and biases and norms do not decay."""
    decay = config.strategy.layer_decay
    blocks = len(network.encoder.blocks)
    rates = {}
    for name, value in network.masters.items():
        if name.startswith("head_"):
            rates[name] = Rate(config.head_learning_rate, weight_decay=0.0)
        else:
            parts = name.split(".")  # encoder.blocks.{i}.… or encoder.embeddings.…
            index = int(parts[2]) if parts[1] == "blocks" else -1
            rate = config.learning_rate * decay ** (blocks - 1 - index)
            rates[name] = Rate(rate, weight_decay=weight_decay if value.dim() > 1 else 0.0)
    return rates


def _disable_dropout(encoder: Any) -> None:
    """Set dropout to zero: a few epochs from a fitted head do not need it, and masks would differ with the threads."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _initialise(encoder: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            values = torch.randn(module.weight.shape, generator=generator) * 0.02
            module.weight.data.copy_(values)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.Conv1d | nn.Conv2d):
            drawn = torch.empty(module.weight.shape)  # where the generator draws, whatever the device
            nn.init.kaiming_normal_(drawn, mode="fan_out", generator=generator)
            module.weight.data.copy_(drawn)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.fill_(1.0)
            if module.bias is not None:
                module.bias.data.zero_()
