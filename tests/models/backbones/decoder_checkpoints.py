"""Tiny decoders with random weights, written to a folder as the hub would have them: jobs on them are quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

from models.backbones.registry import BackboneEntry, FolderSource

MAX_TOKENS = 512

_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(folder: Path, *, architecture: str = "llama", name: str = "tiny-writer", **config: Any) -> BackboneEntry:
    """Make the checkpoint in `folder` and describe it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": MAX_TOKENS,
        "initializer_range": 0.2, "tie_word_embeddings": True, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    made = AutoConfig.for_model(architecture, **{**sizes, **config})
    AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    beside = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(beside, indent=1) + "\n")
    return describe(folder, name=name)


def describe(folder: Path, *, name: str = "tiny-writer") -> BackboneEntry:
    """Return the registry's entry for a checkpoint that lies in `folder`."""
    return BackboneEntry(name, "text", FolderSource(folder), "none", 48, 3, 0, MAX_TOKENS, kind="decoder")


def offer(checkpoint: Path, file: Path, *, name: str = "tiny-writer") -> Path:
    """Write the operator's file of bases, with a checkpoint that lies in a folder; return the file."""
    source = {"folder": str(checkpoint)}
    entry = {"modality": "text", "kind": "decoder", "source": source, "licence": "none", "max_tokens": MAX_TOKENS}
    file.write_text(json.dumps({name: entry}))
    return file


def _tokenizer() -> Tokenizer:
    """Byte by byte."""
    pieces = [*_CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _CONTROL])
    return tokenizer
