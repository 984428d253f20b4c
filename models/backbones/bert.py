"""BERT read from its files without `transformers`, whose import takes longer than all the rest of a start.

The modules compute what Hugging Face's do, operation by operation and bit by bit, under the same names; a test holds
them against each other. Whatever differs from the plain form in a checkpoint's files is left to `transformers`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.backbones.padding import Padding

WEIGHTS = "model.safetensors"
_PLAIN = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The sizes in `config.json`; defaults are those of the format."""

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0


@dataclass(frozen=True, slots=True)
class BertTokenizer:
    """The tokenizer's rules, and the special tokens that are asked for."""

    backend_tokenizer: Tokenizer
    pad_token_id: int | None
    sep_token_id: int | None


class _Embedding(nn.Embedding):
    """An embedding whose weights come from a file."""

    def reset_parameters(self) -> None:
        """Draw no numbers: on the device `meta`, that alone would import torch's compiler."""


class _Linear(nn.Linear):
    """A linear layer whose weights come from a file."""

    def reset_parameters(self) -> None:
        """Draw no numbers."""


class BertEmbeddings(nn.Module):
    """Words, positions and segments, summed and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = _Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = _Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = _Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return (B, T, D)."""
        positions_1T = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        types_BT = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        # In this order: another one rounds differently.
        summed_BTD = self.word_embeddings(input_ids) + self.token_type_embeddings(types_BT)
        summed_BTD = summed_BTD + self.position_embeddings(positions_1T)
        hidden_BTD: Tensor = self.dropout(self.LayerNorm(summed_BTD))
        return hidden_BTD


class _SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_attention_heads = config.num_attention_heads
        self.head_size = width // config.num_attention_heads
        self.query, self.key, self.value = _Linear(width, width), _Linear(width, width), _Linear(width, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, hidden: Tensor, mask: Tensor | Padding | None) -> Tensor:
        projected = [self.query(hidden), self.key(hidden), self.value(hidden)]
        if isinstance(mask, Padding):
            projected = [mask.restore(each_ND) for each_ND in projected]
        padded = projected[0].shape
        query, key, value = (each.view(*padded[:-1], -1, self.head_size).transpose(1, 2) for each in projected)
        attended_BHTd = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask.mask_B11T if isinstance(mask, Padding) else mask,
            dropout_p=self.dropout.p if self.training else 0.0,
            scale=self.head_size**-0.5,
        )
        attended_BTD = attended_BHTd.transpose(1, 2).contiguous().reshape(padded)
        return mask.remove(attended_BTD) if isinstance(mask, Padding) else attended_BTD


class _Output(nn.Module):
    """A linear layer back to the width, added to what came in, normalised."""

    def __init__(self, inputs: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = _Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return output


class _Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Output(config.hidden_size, config)

    def forward(self, hidden: Tensor, mask: Tensor | Padding | None) -> Tensor:
        output: Tensor = self.output(self.self(hidden, mask), hidden)
        return output


class _Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = _Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = nn.GELU()

    def forward(self, hidden: Tensor) -> Tensor:
        inner: Tensor = self.intermediate_act_fn(self.dense(hidden))
        return inner


class BertLayer(nn.Module):
    """One block, post-norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config.intermediate_size, config)

    def forward(self, hidden: Tensor, mask: Tensor | Padding | None = None) -> Tensor:
        """Return (B, T, D); with a `Padding` for a mask it takes and returns the tokens alone, (N, D)."""
        attended = self.attention(hidden, mask)
        output: Tensor = self.output(self.intermediate(attended), attended)
        return output


def read_network(folder: Path | None) -> tuple[BertEmbeddings, nn.ModuleList] | None:
    """Return embeddings and blocks in fp32, in eval mode. None: this is not a plain BERT in one file."""
    config = _read_config(folder)
    if folder is None or config is None or not (folder / WEIGHTS).is_file():
        return None
    with torch.device("meta"):  # no memory, and no random numbers of anybody's generator
        embeddings = BertEmbeddings(config)
        blocks = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
    state = {name.removeprefix("bert."): tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    try:
        _fill(embeddings, "embeddings.", state)
        for number, block in enumerate(blocks):
            _fill(block, f"encoder.layer.{number}.", state)
    except RuntimeError:  # other names or shapes
        return None
    return embeddings.eval(), blocks.eval()


def read_tokenizer(folder: Path | None) -> BertTokenizer | None:
    """Return the tokenizer. None: its files say something else than BERT's usual rules."""
    if _read_config(folder) is None or folder is None:
        return None
    rules, options = _read_json(folder / "tokenizer.json"), _read_json(folder / "tokenizer_config.json")
    if rules is None or options is None or options.get("tokenizer_class") not in ("BertTokenizer", "BertTokenizerFast"):
        return None
    normalizer = rules.get("normalizer") or {}
    # Where the two files disagree, `transformers` has its own idea of which one counts.
    agreed = {
        "type": "BertNormalizer",
        "clean_text": True,
        "lowercase": options.get("do_lower_case", True),
        "handle_chinese_chars": options.get("tokenize_chinese_chars", True),
        "strip_accents": options.get("strip_accents"),
    }
    pad, separator = options.get("pad_token"), options.get("sep_token")
    if normalizer != agreed or not isinstance(pad, str) or not isinstance(separator, str):
        return None
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return BertTokenizer(backend, backend.token_to_id(pad), backend.token_to_id(separator))


def _read_config(folder: Path | None) -> BertConfig | None:
    values = _read_json(folder / "config.json") if folder is not None else None
    if values is None or any(values.get(name, usual) != usual for name, usual in _PLAIN.items()):
        return None
    if values.get("model_type") != "bert":
        return None
    return BertConfig(**{name: values[name] for name in BertConfig.__slots__ if name in values})


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _fill(module: nn.Module, prefix: str, state: dict[str, Tensor]) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    own.pop("position_ids", None)  # older checkpoints carry this buffer
    module.load_state_dict(own, assign=True)
