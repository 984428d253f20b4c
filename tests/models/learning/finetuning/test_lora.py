from __future__ import annotations

import pytest
import torch

from models.backbones.encoder import features
from models.backbones.text import TextBackbone
from models.learning.finetuning import lora


@pytest.fixture
def trained(backbone: TextBackbone) -> torch.nn.Module:
    encoder = backbone.trainable_copy().eval().requires_grad_(False)
    lora.add(encoder.blocks, 4, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, lora.LoraLinear):
            module.lora_up.data.copy_(torch.randn(module.lora_up.shape, generator=generator) * 0.05)
    return encoder


def test_at_first_nothing_changes(backbone: TextBackbone) -> None:
    plain, side = backbone.trainable_copy().eval(), backbone.trainable_copy().eval()
    lora.add(side.blocks, 8, seed=0)
    batch = backbone.collate(backbone.tokenize(["a text", "another text"]))
    with torch.no_grad():
        assert torch.equal(features(plain, batch, ["mean.6"])["mean.6"], features(side, batch, ["mean.6"])["mean.6"])


def test_merged_weights_equal_the_side_path(backbone: TextBackbone, trained: torch.nn.Module) -> None:
    merged = backbone.trainable_copy().eval()
    before = merged.blocks[0].attention.self.query.weight.clone()
    saved = lora.weights(trained.blocks, torch.float32)
    assert len(saved.pairs) == 6 * 6  # blocks, linear layers
    assert saved.pairs[0, "attention.self.query"][0].shape == (4, 384)
    lora.merge(merged.blocks, saved)
    assert not torch.equal(before, merged.blocks[0].attention.self.query.weight)
    batch = backbone.collate(backbone.tokenize(["a text", "another, longer text about cards"]))
    with torch.no_grad():
        left = features(trained, batch, ["mean.6", "max.3"])
        right = features(merged, batch, ["mean.6", "max.3"])
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=1e-4, rtol=1e-4)
    layer = trained.blocks[2].output.dense
    torch.testing.assert_close(layer.merged_weight(), merged.blocks[2].output.dense.weight)


def test_only_the_matrices_train(trained: torch.nn.Module) -> None:
    names = {name.rsplit(".", 1)[1] for name, value in trained.named_parameters() if value.requires_grad}
    assert names == {"lora_down", "lora_up"}
