"""The catalogue: models of the public hub that are worth adding. No torch.

Sizes, licences and languages are those of the models' own cards. There are no revisions: `graft base-models add` pins
the commit that it finds. What an input costs was measured with random weights of the same shape, by
`tests/benchmarks/catalogue_costs.py`: the values of the weights do not change it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from models.backbones.registry import Modality


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model."""

    name: str  # as a base
    id: str  # on the hub
    modality: Modality
    parameters: int  # of the whole checkpoint, in millions
    licence: str
    languages: str  # of texts and of speech; "" for what has none
    good_for: str
    seconds: float | None = None  # for a thousand inputs on one core; None: not measured


CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry("multilingual-minilm", "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", "text", 118,
                   "Apache-2.0", "50", "short texts in many languages", seconds=11),
    CatalogueEntry("multilingual-e5-small", "intfloat/multilingual-e5-small", "text", 118, "MIT", "94",
                   "texts in many languages, up to 512 tokens at once", seconds=11),
    CatalogueEntry("multilingual-e5-base", "intfloat/multilingual-e5-base", "text", 278, "MIT", "94",
                   "the same, larger", seconds=45),
    CatalogueEntry("bge-small", "BAAI/bge-small-en-v1.5", "text", 33, "MIT", "English",
                   "English texts, up to 512 tokens at once", seconds=11),
    CatalogueEntry("bge-base", "BAAI/bge-base-en-v1.5", "text", 109, "MIT", "English",
                   "the same, larger", seconds=37),
    CatalogueEntry("modernbert-base", "answerdotai/ModernBERT-base", "text", 149, "Apache-2.0", "English",
                   "long English texts, up to 8,192 tokens at once", seconds=60),
    CatalogueEntry("resnet-18", "microsoft/resnet-18", "image", 12, "Apache-2.0", "",
                   "photographs, cheaply", seconds=28),
    CatalogueEntry("resnet-50", "microsoft/resnet-50", "image", 26, "Apache-2.0", "", "photographs", seconds=62),
    CatalogueEntry("dinov2-small", "facebook/dinov2-small", "image", 22, "Apache-2.0", "",
                   "photographs of kinds that ImageNet does not have: textures, medicine, aerial views", seconds=92),
    CatalogueEntry("dinov2-base", "facebook/dinov2-base", "image", 87, "Apache-2.0", "",
                   "the same, larger", seconds=290),
    CatalogueEntry("siglip-base", "google/siglip-base-patch16-224", "image", 203, "Apache-2.0", "",
                   "pictures that words describe: signs, screens, products; only its eyes are used", seconds=231),
    CatalogueEntry("vit-base", "google/vit-base-patch16-224-in21k", "image", 86, "Apache-2.0", "",
                   "photographs", seconds=214),
    CatalogueEntry("dinov3-small", "facebook/dinov3-vits16-pretrain-lvd1689m", "image", 22, "DINOv3 (gated)", "",
                   "as DINOv2, trained on more pictures", seconds=73),
    CatalogueEntry("d-fine-nano", "ustc-community/dfine-nano-coco", "image", 4, "Apache-2.0", "",
                   "boxes in pictures: it finds 80 kinds of things already"),
    CatalogueEntry("ast", "MIT/ast-finetuned-audioset-10-10-0.4593", "audio", 87, "BSD-3-Clause", "",
                   "sounds of all kinds: machines, animals, music", seconds=1965),
    CatalogueEntry("wav2vec2-base", "facebook/wav2vec2-base", "audio", 95, "Apache-2.0", "English",
                   "speech: words, speakers, moods", seconds=288),
    CatalogueEntry("hubert-base", "facebook/hubert-base-ls960", "audio", 95, "Apache-2.0", "English",
                   "speech: words, speakers, moods", seconds=293),
    CatalogueEntry("whisper-tiny", "openai/whisper-tiny", "audio", 38, "Apache-2.0", "99",
                   "speech in many languages, 30 seconds at a time; only its ears are used", seconds=280),
)  # fmt: skip

_BY_NAME = {entry.name: entry for entry in CATALOGUE}
_BY_ID = {entry.id.lower(): entry for entry in CATALOGUE}


def find(given: str) -> CatalogueEntry | None:
    """Return the entry of that name or hub id."""
    return _BY_NAME.get(given) or _BY_ID.get(given.lower())


def suggestion(given: str) -> str:
    """Return ` Did you mean …?` with the nearest name of the catalogue, "" if none is near."""
    near = difflib.get_close_matches(given, _BY_NAME, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else " `graft base-models catalogue` lists names."
