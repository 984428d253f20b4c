"""Bases that write, loaded: network, tokenizer and chat template. Thread-safe; the weights are never written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from models.backbones import causal, gguf, registry, sources
from models.backbones import precision as formats
from models.backbones.chat_template import ChatTokenizer, Message
from models.backbones.checkpoint import from_pretrained, revision_of
from models.backbones.decoder import Decoder, DecoderConfig
from models.backbones.errors import BaseModelUnreachable, UnsupportedDecoder
from models.backbones.registry import BackboneEntry
from models.backbones.sources import HubSource, PackedSource

_ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
_ROTATIONS = ("default", "linear", "llama3", "yarn")
_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors")
_PARITY_DIVERGENCE = 0.02  # nats per token between the answers of bf16 and of fp32
_PARITY_TEXT = "The quick brown fox jumps over the lazy dog while 42 others, unimpressed, look on from the hill."

_log = structlog.get_logger(__name__)


class DecoderBackbone:
    """A frozen base that writes, shared by all customers."""

    windowing: None = None  # what is longer than the base reads is cut or refused, and never read in windows

    def __init__(
        self, entry: BackboneEntry, folder: Path, network: Decoder, tokenizer: ChatTokenizer, *, threads: int
    ) -> None:
        self.entry = entry
        self.folder = folder
        self.revision = revision_of(entry, folder, _FILES, entry.max_tokens)
        self.network = network
        self.tokenizer = tokenizer
        self.config = network.config
        self.blocks = network.config.blocks
        self.max_tokens = network.config.max_tokens
        weight = network.head.weight
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        self.threads = threads

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool,
    ) -> list[int]:
        """Return the tokens of a conversation, as `ChatTokenizer.encode_chat` does."""
        return self.tokenizer.encode_chat(messages, tools=tools, add_generation_prompt=add_generation_prompt)

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of a text that is no conversation."""
        return self.tokenizer.encode_text(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, control tokens left out."""
        return self.tokenizer.decode(tokens)

    def trainable_copy(self) -> Decoder:
        """Return a fresh fp32 network with the pretrained weights on the same device; it shares nothing."""
        return _read_network(self.entry, self.folder, self.tokenizer).to(self.device)


def load_decoder(
    entry: BackboneEntry, *, device: str = "auto", precision: str = "auto", threads: int = 0
) -> DecoderBackbone:
    """Load a base that writes; arguments as of `loading.load`. bf16 is dropped if it answers unlike fp32.

    Raises BaseModelUnreachable and UnsupportedDecoder.
    """
    threads = formats.use_threads(threads)
    place = formats.resolve_device(device)
    folder = fetch(entry)
    tokenizer = ChatTokenizer(folder)
    network = _read_network(entry, folder, tokenizer).to(place)
    dtype = formats.resolve_precision(precision, place, few_rows=True)
    if dtype is torch.float32:
        return DecoderBackbone(entry, folder, network, tokenizer, threads=threads)
    probe = tokenizer.encode_text(_PARITY_TEXT)
    exact_NV = _log_probabilities(network, probe)
    network.to(dtype)
    reduced_NV = _log_probabilities(network, probe)
    divergence = float((exact_NV.exp() * (exact_NV - reduced_NV)).sum(-1).mean())
    if divergence > _PARITY_DIVERGENCE:
        _log.warning("bf16_without_parity", base=entry.name, divergence=divergence, needed=_PARITY_DIVERGENCE)
        network = _read_network(entry, folder, tokenizer).to(place)
    return DecoderBackbone(entry, folder, network, tokenizer, threads=threads)


def revision_here(entry: BackboneEntry, folder: Path) -> str | None:
    """Return the hash of a base's files, as artifacts name it; None if its weights are not on this machine."""
    return revision_of(entry, folder, _FILES, entry.max_tokens) if (folder / _FILES[-1]).is_file() else None


def fetch(entry: BackboneEntry, *, weights: bool = True) -> Path:
    """Return the base's folder on this machine: unpacked or downloaded now, if need be; from the hub without weights
    where others compute. Raises BaseModelUnreachable.
    """
    source = entry.source
    if isinstance(source, PackedSource):
        return gguf.unpack(entry, source)
    if not isinstance(source, HubSource):
        folder = registry.folder_of(entry)
        assert folder is not None  # noqa: S101  (only hub sources have none)
        return folder
    if (cached := sources.cached(source, "tokenizer.json")) is not None:
        return cached.parent
    import huggingface_hub  # noqa: PLC0415

    try:
        patterns = ["*.json", "*.jinja", *(["*.safetensors"] if weights else [])]
        return Path(huggingface_hub.snapshot_download(source.id, revision=source.revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise BaseModelUnreachable(
            name=entry.name,
            source=source,
            reason=str(error).splitlines()[0],
            mend="Check the source, or download it once while there is a network.",
        ) from error


def _read_network(entry: BackboneEntry, folder: Path, tokenizer: ChatTokenizer) -> Decoder:
    """Return the network in fp32, in the machine's own memory."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - every trainer imports this module, few write

    model = from_pretrained(AutoModelForCausalLM, entry, folder, dtype=torch.float32, use_safetensors=True)
    found = model.config
    rotation = (getattr(found, "rope_parameters", None) or {}).get("rope_type", "default")
    gated = getattr(found, "hidden_act", "silu") == "silu"
    if found.model_type not in _ARCHITECTURES or rotation not in _ROTATIONS or not gated:
        raise UnsupportedDecoder(name=entry.name, architecture=type(model).__name__)
    limits = [entry.max_tokens or found.max_position_embeddings, found.max_position_embeddings]
    if getattr(found, "use_sliding_window", True) and getattr(found, "sliding_window", None):
        limits.append(int(found.sliding_window))  # beyond it the base would not see the beginning
    config = DecoderConfig(
        blocks=found.num_hidden_layers,
        width=found.hidden_size,
        heads=found.num_attention_heads,
        key_value_heads=found.num_key_value_heads,
        head_width=getattr(found, "head_dim", None) or found.hidden_size // found.num_attention_heads,
        vocabulary=found.vocab_size,
        max_tokens=min(limits),
        tied=bool(found.tie_word_embeddings),
        ends=tokenizer.ends,
    )
    network: Decoder = Decoder(model, config).requires_grad_(False).eval()
    return network


@torch.inference_mode()
def _log_probabilities(network: Decoder, tokens: Sequence[int]) -> Tensor:
    device = network.head.weight.device
    tokens_N = torch.tensor(tokens, device=device)
    lengths = [len(tokens)]
    hidden_ND = network.run(network.embed(tokens_N), causal.positions(lengths, device), causal.attend_within(lengths))
    return network.logits(hidden_ND).float().log_softmax(-1)
