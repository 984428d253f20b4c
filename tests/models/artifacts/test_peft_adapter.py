"""A version as others load it: PEFT on transformers scores as our network does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.artifacts import peft_adapter
from models.artifacts.folder import Artifact, read_artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import BlockWeights
from models.artifacts.prompt import Prompt
from models.backbones.writing import load_decoder
from models.learning.generation import network, packing, rows
from tests.models.backbones import decoder_checkpoints

PROMPT = Prompt("lora", "Be brief.")


def _write(folder: Path, parts: tuple[object, ...]) -> Manifest:
    manifest = Manifest("text-generation", "lora", (), (), "tiny-writer", "abc", details=PROMPT.as_details())
    write_artifact(Artifact(manifest, parts), folder)  # type: ignore[arg-type]
    return read_artifact(folder).manifest


def test_peft_scores_as_the_version_does(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = load_decoder(decoder_checkpoints.write(tmp_path / "base"), device="cpu", precision="fp32", threads=1)
    fitted = network.low_rank(base, 4, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in fitted.values.items():
        if name.endswith(".B"):
            value.data.normal_(0, 0.05, generator=generator)
    manifest = _write(tmp_path / "version", fitted.parts(torch.float32))
    adapter = peft_adapter.convert(manifest, (tmp_path / "version" / "weights.safetensors").read_bytes(), base="x")
    assert adapter is not None
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in adapter.files.items():
        (folder / name).write_bytes(content)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.folder), str(folder)).eval()
    tokens = base.encode_text("a version in other hands")
    row = rows.TokenRow(torch.tensor(tokens).numpy(), torch.ones(len(tokens), dtype=torch.bool).numpy(), 0)
    packed = packing.pack([row], 0, base.device)
    with torch.inference_mode():
        own_MV = fitted.decoder.logits(fitted.hidden(packed))
        expected_MV = theirs(torch.tensor([tokens])).logits[0, :-1]
        plain_MV = base.network.logits(network.frozen(base).hidden(packed))
    torch.testing.assert_close(own_MV, expected_MV, atol=1e-3, rtol=0)
    assert (own_MV - plain_MV).abs().max() > 0.01


def test_blocks_of_its_own_are_no_adapter(tmp_path: Path) -> None:
    manifest = _write(tmp_path, (BlockWeights({0: {"input_layernorm.weight": torch.ones(2)}}),))
    assert peft_adapter.convert(manifest, (tmp_path / "weights.safetensors").read_bytes(), base="x") is None
