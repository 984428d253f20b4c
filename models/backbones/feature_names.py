"""Names of features, and the one place that parses them.

A name consists of what is pooled and at which depth: `mean.6`, `unit_mean.6` (scaled to length 1), `word.4`,
`before.4` and `after.4` (one vector per word: of the word itself, or of the one beside it), `shape.0` (capitals and
digits of a word, which no block sees), `product_unit_mean.6` (how the vectors of two texts compare). The part before
the depth is the feature's kind; pooling functions take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

# Over the tokens of a text or the places of a picture or sound. Each base has some of them.
TEXT_POOLINGS = ("mean", "max", "cls")
MAP_POOLINGS = ("mean", "max", "std", "bands")
PATCH_POOLINGS = ("mean", "max", "std", "cls")
# Which word a feature is of, seen from the word that it describes.
WORD_POOLINGS = {"word": 0, "before": -1, "after": 1}
WORD_SHAPES = {"shape": 0, "shape_before": -1, "shape_after": 1}  # of depth 0: see `word_shapes`
# How the vectors of two texts compare, see `pairs.COMPARISONS`.
PAIRS = ("product", "distance", "cosine", "first", "second")
# Scaled to length 1, as sentence encoders are trained to be compared. Worth 0.2 to 0.5 points to a head.
UNIT = "unit_"

_POOLINGS = frozenset((*TEXT_POOLINGS, *MAP_POOLINGS, *PATCH_POOLINGS))


@dataclass(frozen=True, slots=True)
class FeatureName:
    """The parts of a feature's name."""

    pooling: str
    depth: int  # after so many blocks
    unit: bool = False  # scaled to length 1
    pair: str = ""  # the comparison of two texts; empty for a feature of one text, picture or sound

    @property
    def per_word(self) -> bool:
        """True if there is one vector per word."""
        return self.pooling in WORD_POOLINGS or self.pooling in WORD_SHAPES

    @property
    def kind(self) -> str:
        """The name without its depth: `product_unit_mean`."""
        return f"{self.pair}_{self.single_kind}" if self.pair else self.single_kind

    @property
    def single_kind(self) -> str:
        """The kind of the feature of each text by itself: `unit_mean`."""
        return UNIT + self.pooling if self.unit else self.pooling

    @property
    def plain(self) -> str:
        """The feature from which `single` follows by scaling: `mean.6`."""
        return f"{self.pooling}.{self.depth}"

    @property
    def single(self) -> str:
        """The feature of each text by itself: `unit_mean.6`."""
        return f"{self.single_kind}.{self.depth}"


def parse(name: str) -> FeatureName:
    """Return the parts of a name; raises ValueError for what no base has."""
    feature = find(name)
    if feature is None:
        raise ValueError(f"unknown feature '{name}', expected for example 'mean.6'")
    return feature


@lru_cache(maxsize=4_096)  # every pass of serving asks again, for names that heads have in common
def find(name: str) -> FeatureName | None:
    """Return the parts of a name, None for what no base has."""
    kind, _, depth = name.partition(".")
    if not depth.isdigit():
        return None
    pair, kind = split_pair(kind)
    if not pair and kind in WORD_POOLINGS:
        return FeatureName(kind, int(depth))
    if not pair and kind in WORD_SHAPES:
        return FeatureName(kind, 0) if int(depth) == 0 else None
    unit, pooling = split_unit(kind)
    return FeatureName(pooling, int(depth), unit, pair) if pooling in _POOLINGS else None


def split_pair(kind: str) -> tuple[str, str]:
    """Split `"product_unit_mean"` into ("product", "unit_mean"), depth or not; ("", kind) if nothing is compared."""
    pair, _, single = kind.partition("_")
    return (pair, single) if pair in PAIRS else ("", kind)


def split_unit(kind: str) -> tuple[bool, str]:
    """Split `"unit_mean"` into (True, "mean"), depth or not; (False, kind) if it is not scaled to length 1."""
    return (True, kind.removeprefix(UNIT)) if kind.startswith(UNIT) else (False, kind)
