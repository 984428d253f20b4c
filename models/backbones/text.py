"""Text base models: tokenise, encode, pool. Thread-safe once loaded; the weights are never written to."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones import bert, modernbert, registry, windows, word_shapes
from models.backbones import encoder as encoding
from models.backbones import packed_batch as packing
from models.backbones import precision as formats
from models.backbones.batches import RowEncoding
from models.backbones.checkpoint import Checkpoint, from_pretrained, revision_of
from models.backbones.encoder import TextBatch, TextEncoder
from models.backbones.errors import UnsupportedBaseModel
from models.backbones.feature_names import WORD_SHAPES
from models.backbones.packed import PackedEncoder, is_packable
from models.backbones.registry import BackboneEntry
from models.backbones.text_tokenizer import TextRow, TextTokenizer
from models.datasets.examples import TextPair
from models.datasets.windowing import Windowing

Floats = NDArray[np.float32]

# The library's own pass and ours run the same modules: they differ by rounding at most.
_WALK_TOLERANCE = 1e-3
_FILES = ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors")
_PARITY_TEXTS = (
    "My card has not arrived yet.",
    "How much is the fee for a transfer abroad, and when will the money be there?",
    "Passwort vergessen",
    "The quick brown fox jumps over the lazy dog while 42 others, unimpressed, look on from the far side of the hill.",
    "?",
)

_log = structlog.get_logger(__name__)


class TextBackbone(RowEncoding):
    """A frozen text encoder: shared by all customers, never written to."""

    # Tokens of a batch, padding included. Measured on AMX with short texts: 2,048 to 4,096 keep the activations in
    # cache; 16,384 halve the rate.
    token_budget = 4_096

    def __init__(
        self,
        checkpoint: Checkpoint[TextEncoder],
        tokenizer: Any,
        encoder: TextEncoder,
        *,
        threads: int,
    ) -> None:
        entry = checkpoint.entry
        self.entry = entry
        self.revision = checkpoint.revision  # SHA-256 of weights, configuration and vocabulary
        self.blocks = len(encoder.blocks)
        self.linear = True
        parameter = next(encoder.parameters())
        self.device = parameter.device
        self.dtype = parameter.dtype
        self._tokenizer = TextTokenizer(tokenizer.backend_tokenizer, entry.max_tokens)
        self._read = checkpoint.read
        self.threads = threads if self.device.type == "cpu" else 1  # batches that `encode` computes side by side
        self._pad_id: int = tokenizer.pad_token_id or 0
        has_types = getattr(encoder.embeddings, "token_type_embeddings", None)
        self._separator: int | None = tokenizer.sep_token_id if has_types and has_types.num_embeddings > 1 else None
        # The weights are held once: laid out for the fast path, where it can compute the network, or as they came.
        self.network: PackedEncoder | TextEncoder = encoder
        if is_packable(encoder.embeddings, encoder.blocks):
            self.network = PackedEncoder(
                encoder.embeddings, encoder.blocks, dtype=self.dtype, separator=self._separator
            )
        self.width = int(self.frozen_features(self.tokenize(["?"]), ["cls.0"])["cls.0"].shape[1])

    @property
    def packed(self) -> PackedEncoder | None:
        """The network on the fast path; None for a network that it cannot compute."""
        return self.network if isinstance(self.network, PackedEncoder) else None

    def with_windowing(self, windowing: Windowing | None) -> TextBackbone:
        """Return the same base, its weights shared, that reads long texts so; None: only their beginnings."""
        if windowing == self.windowing:
            return self
        other = copy.copy(self)
        other.windowing = windowing
        return other

    def tokenize(self, inputs: Sequence[str | TextPair]) -> list[TextRow]:
        """Return one int32 array per input, special tokens included, and a WindowRow for a text of several windows."""
        return self._tokenizer.tokenize(inputs, self.windowing)

    def tokenize_with_offsets(self, inputs: Sequence[str]) -> list[tuple[TextRow, NDArray[np.int64]]]:
        """Return the rows, and the characters (T, 2) that are to be pooled from each token; (0, 0): none."""
        return self._tokenizer.tokenize_with_offsets(inputs, self.windowing)

    def cut_tokens(self, inputs: Sequence[str], rows: Sequence[TextRow]) -> NDArray[np.int64]:
        """Return how many tokens of each text lie beyond its row and are not read, (N,)."""
        return self._tokenizer.cut_tokens(inputs, rows)

    def units(self, rows: Sequence[TextRow]) -> None:
        """Return None: one vector per row."""

    def collate(self, rows: Sequence[TextRow]) -> TextBatch:
        """Pad all windows to the longest and move to the device."""
        parts, layout = windows.flatten(rows)
        lengths = np.fromiter((len(part) for part in parts), dtype=np.int64, count=len(parts))
        longest = int(lengths.max())
        ids_BT = np.full((len(parts), longest), self._pad_id, dtype=np.int64)
        for index, part in enumerate(parts):
            ids_BT[index, : len(part)] = part
        mask_BT = np.arange(longest) < lengths[:, None]
        return TextBatch(
            ids_BT=torch.from_numpy(ids_BT).to(self.device),
            mask_BT=torch.from_numpy(mask_BT).to(self.device),
            lengths=lengths,
            types_BT=self._types(ids_BT, mask_BT),
            padded=bool(lengths.min() < longest),
            layout=layout,
        )

    @torch.inference_mode()
    def pool(self, hidden_BTD: Tensor, batch: TextBatch, kind: str) -> Tensor:
        """Return (B, D) float32; kinds `mean`, `max`, `cls`, and each with `unit_` before it."""
        return encoding.pool(hidden_BTD, batch, kind)

    @torch.inference_mode()
    def frozen_features(self, rows: Sequence[TextRow], names: Collection[str]) -> dict[str, Tensor]:
        """Return features of rows in one pass, on the fast path if there is one: (B, D) float32 each."""
        network = self.network
        if isinstance(network, TextEncoder):
            return encoding.features(network, self.collate(rows), names)
        wanted = {name: encoding.parse_feature(name) for name in names}
        depths = {depth for _, depth in wanted.values()}
        parts, layout = windows.flatten(rows)
        batch = network.pack(parts)
        _, tapped = network.run(batch, network.embed(batch), 0, max(depths), taps=depths)
        return {
            name: windows.pool(partial(packing.pool, tapped[depth], batch), kind, layout)
            for name, (kind, depth) in wanted.items()
        }

    def feature_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Return sets of features worth trying, by the name that a customer may ask for; the default first."""
        last, top = f"unit_mean.{self.blocks}", f"unit_max.{self.blocks}"
        depths = tuple(f"unit_mean.{depth}" for depth in range(self.blocks + 1))
        return {"last-max": (last, top), "depths-max": (*depths, top), "last": (last,), "depths": depths}

    def probe(self, depth: int) -> str:
        """Return the mean over the tokens."""
        return f"mean.{depth}"

    def parse_feature(self, name: str) -> tuple[str, int]:
        """Split `"mean.6"` into ("mean", 6). Raises ValueError."""
        kind, depth = encoding.parse_feature(name)
        if depth > self.blocks:
            raise ValueError(f"unknown feature '{name}', the base has {self.blocks} blocks")
        return kind, depth

    def feature_width(self, name: str) -> int:
        """Return how many numbers the named feature has: the base's width, but of a word's shape."""
        return word_shapes.WIDTH if name.partition(".")[0] in WORD_SHAPES else self.width

    def plan(self, lengths: Sequence[int] | NDArray[Any]) -> list[NDArray[np.int64]]:
        """Return row indices in batches of similar length; rows times the longest row stays within the budget.

        A single row longer than the budget is a batch of its own.
        """
        lengths = np.asarray(lengths)
        order = np.argsort(lengths, kind="stable").astype(np.int64)
        batches, start = [], 0
        for end in range(1, len(order) + 1):
            if end == len(order) or (end - start + 1) * lengths[order[end]] > self.token_budget:
                batches.append(order[start:end])
                start = end
        return batches

    def pretrained(self) -> TextEncoder:
        """Return a fresh fp32 encoder in the machine's own memory, read from the base's files."""
        return self._read()

    def trainable_copy(self) -> TextEncoder:
        """Return a fresh fp32 encoder with the pretrained weights on the same device; it shares nothing."""
        fresh = self.pretrained().to(self.device)
        return fresh.requires_grad_(True).train()

    def _types(self, ids_BT: NDArray[np.int64], mask_BT: NDArray[np.bool_]) -> Tensor | None:
        if self._separator is None:
            return None
        separators_BT = np.cumsum(ids_BT == self._separator, axis=1)
        if int(separators_BT.max()) < 2:
            return None  # only single texts: the model's own default is cheaper
        # Second segment: behind the first separator, the last separator included.
        behind_BT = (separators_BT - (ids_BT == self._separator)) >= 1
        return torch.from_numpy((behind_BT & mask_BT).astype(np.int64)).to(self.device)


def load(entry: BackboneEntry, *, device: torch.device, precision: str, threads: int) -> TextBackbone:
    """Load a text base. bf16 is dropped for fp32, with a warning, if its vectors are not those of fp32."""
    folder = registry.folder_of(entry)

    def read() -> TextEncoder:
        return _load_encoder(entry, folder)

    tokenizer = _load_tokenizer(entry, folder)
    encoder = read().to(device).requires_grad_(False).eval()
    checkpoint = Checkpoint(entry, revision_of(entry, folder, _FILES, entry.max_tokens), read)
    backbone = TextBackbone(checkpoint, tokenizer, encoder, threads=threads)
    dtype = formats.resolve_precision(precision, device)
    if dtype is torch.float32:
        return backbone
    last = [f"mean.{backbone.blocks}"]
    exact_NF = backbone.encode(_PARITY_TEXTS, last)
    reduced = TextBackbone(checkpoint, tokenizer, encoder.to(dtype), threads=threads)
    cosine = formats.least_cosine(exact_NF, reduced.encode(_PARITY_TEXTS, last))
    if cosine > formats.PARITY_COSINE:
        _log.info("bf16_parity", base=entry.name, cosine=round(cosine, 6), needed=formats.PARITY_COSINE)
        return reduced
    _log.warning("bf16_without_parity", base=entry.name, cosine=cosine, needed=formats.PARITY_COSINE)
    return TextBackbone(checkpoint, tokenizer, read().to(device).requires_grad_(False).eval(), threads=threads)


def _load_tokenizer(entry: BackboneEntry, folder: Path | None) -> Any:
    if (own := bert.read_tokenizer(folder)) is not None:
        return own
    from transformers import AutoTokenizer  # noqa: PLC0415 - most processes start without it

    tokenizer = from_pretrained(AutoTokenizer, entry, folder, use_fast=True)
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedBaseModel(name=entry.name, architecture=f"{type(tokenizer).__name__} (no fast tokenizer)")
    return tokenizer


def _load_encoder(entry: BackboneEntry, folder: Path | None) -> TextEncoder:
    if (own := bert.read_network(folder)) is not None:
        return TextEncoder(*own)
    from transformers import AutoModel  # noqa: PLC0415 - it takes as long as the rest of the start

    model = from_pretrained(
        AutoModel, entry, folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True
    )
    for find in (_find_blocks, modernbert.find):
        if (encoder := find(model)) is not None:
            _check_walk(model.eval(), encoder.eval(), name=entry.name)
            return encoder
    raise UnsupportedBaseModel(name=entry.name, architecture=type(model).__name__)


def _find_blocks(model: Any) -> TextEncoder | None:
    """Return the encoder inside a BERT-like model, None for another network."""
    for owner, name in (("encoder", "layer"), ("transformer", "layer")):
        blocks = getattr(getattr(model, owner, None), name, None)
        if isinstance(blocks, nn.ModuleList) and hasattr(model, "embeddings"):
            return TextEncoder(model.embeddings, blocks)
    return None


@torch.inference_mode()
def _check_walk(model: Any, encoder: TextEncoder, *, name: str) -> None:
    """Compare our run through the blocks with the model's own; raises UnsupportedBaseModel if they differ.

    Blocks that expect more than states and a mask, as relative positions, would be computed without it.
    """
    tokens = encoder.walk_tokens
    ids_BT = torch.arange(2 * tokens).reshape(2, -1) % model.config.vocab_size
    lengths = np.array([tokens, tokens // 2])
    mask_BT = torch.arange(tokens) < torch.from_numpy(lengths)[:, None]
    batch = TextBatch(ids_BT, mask_BT, lengths, None, padded=True)
    try:
        ours_BTD, _ = encoder.run(batch, encoder.embed(batch), 0, len(encoder.blocks))
    except (TypeError, AttributeError, RuntimeError) as error:
        raise UnsupportedBaseModel(name=name, architecture=type(model).__name__) from error
    theirs_BTD = model(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
    differ = (ours_BTD - theirs_BTD)[mask_BT].abs().max() if ours_BTD.shape == theirs_BTD.shape else torch.inf
    if float(differ) > _WALK_TOLERANCE * float(theirs_BTD.abs().max()):
        raise UnsupportedBaseModel(name=name, architecture=type(model).__name__)
