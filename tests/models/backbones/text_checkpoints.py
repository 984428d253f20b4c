"""A tiny text checkpoint with random weights, written to a folder as the hub would have it: jobs on it are quick."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, ModernBertConfig

from models.backbones.registry import BackboneEntry, FolderSource

MAX_TOKENS = 64

_CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
_VOCABULARY = (*_CONTROL, *_CHARACTERS, *(f"##{character}" for character in string.ascii_lowercase + string.digits))


def write(folder: Path, *, width: int = 32, blocks: int = 3) -> BackboneEntry:
    """Make the checkpoint in `folder` and describe it."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(_VOCABULARY), hidden_size=width, num_hidden_layers=blocks, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=MAX_TOKENS, initializer_range=0.2,
    )  # fmt: skip
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder)
    _write_tokenizer(folder)
    return describe(folder, width=width, blocks=blocks)


def write_modern(folder: Path, *, width: int = 32, blocks: int = 5) -> BackboneEntry:
    """Make a ModernBERT in `folder`, whose local blocks see four tokens on either side, and describe it."""
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(_VOCABULARY), hidden_size=width, num_hidden_layers=blocks, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=MAX_TOKENS, local_attention=8, initializer_range=0.2,
        pad_token_id=0, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    _write_tokenizer(folder)
    return describe(folder, width=width, blocks=blocks)


def _write_tokenizer(folder: Path) -> None:
    _tokenizer().save(str(folder / "tokenizer.json"))
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    beside = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(beside, indent=1) + "\n")


def describe(folder: Path, *, width: int = 32, blocks: int = 3) -> BackboneEntry:
    """The registry's entry for a checkpoint that lies in `folder`."""
    return BackboneEntry("tiny", "text", FolderSource(folder), "none", width, blocks, 0, MAX_TOKENS)


def _tokenizer() -> Tokenizer:
    """Letter by letter; case is lost."""
    index = {piece: at for at, piece in enumerate(_VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(index, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", index["[CLS]"]), ("[SEP]", index["[SEP]"])],
    )
    tokenizer.add_special_tokens(list(_CONTROL))
    return tokenizer
