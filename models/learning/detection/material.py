"""The pictures of a run: those to learn from, those held out, and the canvas and the maps that their boxes need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.backbones.maps import MapLevel
from models.backbones.media import MediaBackbone
from models.datasets.examples import Media
from models.datasets.limits import UNLIMITED
from models.datasets.media import pictures
from models.learning.data import groups, similarity
from models.learning.data.corpus import Corpus
from models.learning.detection import canvas as canvases
from models.learning.detection.canvas import Canvas, Floats
from models.learning.evaluation.boxes import PictureBoxes, drawn
from models.learning.run import Run

_MOST_HELD = 300
_SHARE_HELD = 8  # one picture in eight
# A picture costs one pass of the base: of so many that is about what the first version's views cost.
_MOST_COMPARED = 2_000
# A stride serves objects of three places and more; the next finer one costs four times as much.
_PLACES = 3.0
_FINEST, _COARSEST = 8, 32


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with what is to be found in it; boxes in its own pixels. `place`: in its corpus."""

    place: int
    media: Media
    row: int  # of the file
    size: tuple[int, int]  # width, height
    truth: PictureBoxes

    @property
    def boxes_M4(self) -> Floats:  # noqa: N802  (shapes are in names)
        """Boxes in float32."""
        return self.truth.edges_B4.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is judged on. `group_N`: groups of the held-out pictures; None: each stands alone.

    `sampled_from`: of how many pictures of the validation file those held out are a sample; 0 where they are no sample.
    """

    training: tuple[Picture, ...]
    held: tuple[Picture, ...]
    group_N: NDArray[np.int64] | None
    canvas: Canvas
    levels: tuple[MapLevel, ...]
    sampled_from: int = 0

    @property
    def sampling(self) -> str:
        """What is left out of the validation file, in words; empty where nothing is."""
        if not self.sampled_from:
            return ""
        return (
            f"{len(self.held)} of the {self.sampled_from} pictures of the validation file are scored: a sample in "
            "which every label has its share, the same one in every job on this file"
        )


def join_similar(run: Run, backbone: MediaBackbone) -> Run:
    """Return the run with pictures in one group whose frozen features are alike, as frames of a film. Raises Stopped.

    Nothing is compared if a validation file is there, a column of groups, or more than `_MOST_COMPARED` pictures.
    """
    corpus = run.training
    if run.validation is not None or corpus.groups.stated or len(corpus) > _MOST_COMPARED:
        return run
    media = [item for item in corpus.inputs if isinstance(item, Media)]
    features_ND = backbone.encode(media, [backbone.probe(backbone.blocks)], stop=run.stop)
    least, seed = groups.LEAST_COSINE["image"], run.request.seed
    similar_N = similarity.components(features_ND, least, seed=seed, check_stop=run.check_stop)
    corpus = replace(corpus, groups=corpus.groups.join(similar_N, run.task.strata(corpus.targets)))
    if corpus.groups.warning:
        run.report.add_warning("similar_rows_kept_apart", corpus.groups.warning)
    return replace(run, training=corpus)


def collect(run: Run, levels: Sequence[MapLevel]) -> Material:
    """Return the pictures of both files, or some of the training file's held out.

    Of a large validation file they are a sample: before every version, the first included, all of them are answered,
    and a resample of the score takes memory by their square.
    """
    own = _pictures(run.training, run, range(len(run.training)))
    boxes, labels = [each.boxes_M4 for each in own], [each.truth.label_B for each in own]
    canvas = canvases.choose([each.size for each in own], boxes, labels)
    needed = _needed(levels, own, canvas)
    if run.validation is not None:
        chosen = _sample(run, run.validation)
        held = _pictures(run.validation, run, chosen.tolist())
        held_groups = run.validation.groups.take(chosen).numbers
        sampled_from = len(run.validation) if len(chosen) < len(run.validation) else 0
        return Material(own, held, held_groups, canvas, needed, sampled_from)
    is_held_N = _hold_out(run)
    held_groups = run.training.groups.take(np.flatnonzero(is_held_N)).numbers
    return Material(
        tuple(each for each, is_held in zip(own, is_held_N, strict=True) if not is_held),
        tuple(each for each, is_held in zip(own, is_held_N, strict=True) if is_held),
        held_groups,
        canvas,
        needed,
    )


def _pictures(corpus: Corpus, run: Run, places: Sequence[int]) -> tuple[Picture, ...]:
    found = []
    for place in places:
        run.check_stop()
        media, target, row = corpus.inputs[place], corpus.targets[place], corpus.rows[place]
        assert isinstance(media, Media)  # noqa: S101  (what the task's parse makes)
        measured = pictures.measure(media.data, media.name, UNLIMITED)
        found.append(Picture(place, media, int(row), (measured.width, measured.height), drawn(target, run.labels)))
    return tuple(found)


def _sample(run: Run, corpus: Corpus) -> NDArray[np.int64]:
    """Return the places of at most `_MOST_HELD` pictures: of every label its share and one at least, by their hash.

    Whatever the seed is, for the same reason as in `_hold_out`.
    """
    if len(corpus) <= _MOST_HELD:
        return np.arange(len(corpus))
    keys_N, stratum_N = corpus.input_keys_N, run.task.strata(corpus.targets)
    before_N = np.empty(len(corpus))  # the share of its label's pictures that are chosen before a picture is
    for stratum in np.unique(stratum_N):
        own = np.flatnonzero(stratum_N == stratum)
        before_N[own[np.argsort(keys_N[own], kind="stable")]] = np.arange(len(own)) / len(own)
    chosen: NDArray[np.int64] = np.sort(np.lexsort((keys_N, before_N))[:_MOST_HELD])
    return chosen


def _hold_out(run: Run) -> NDArray[np.bool_]:
    """Return which pictures are held out: of every label its share, by their hash, whatever the seed is.

    So a later job on a file that has grown holds the same ones out, and new ones besides: its version is compared with
    this one's on pictures of which neither has learned. Copies of a picture are together, here or there.
    """
    corpus = run.training
    share = min(1 / _SHARE_HELD, _MOST_HELD / len(corpus))
    members_of: dict[int, list[int]] = {}
    for row, group in enumerate(corpus.groups.group_N.tolist()):
        members_of.setdefault(group, []).append(row)
    stratum_N = run.task.strata(corpus.targets)
    strata: dict[int, list[list[int]]] = {}
    for rows in members_of.values():
        strata.setdefault(int(stratum_N[rows[0]]), []).append(rows)
    is_held_N = np.zeros(len(corpus), dtype=np.bool_)
    due = 0.0
    for _, members in sorted(strata.items()):
        due += share * sum(map(len, members))
        for rows in sorted(members, key=lambda rows: int(corpus.input_keys_N[rows].min())):
            if due < len(rows) - 0.5:  # too large a group; a smaller one may come
                continue
            is_held_N[rows] = True
            due -= len(rows)
    if not is_held_N.any():  # every group is larger than its label's share, as of a few films
        is_held_N[min(members_of.values(), key=len)] = True
    return is_held_N


def _needed(levels: Sequence[MapLevel], own: Sequence[Picture], canvas: Canvas) -> tuple[MapLevel, ...]:
    """Return the levels from the coarsest that serves small objects, too, upwards; two at least, where there are."""
    usable = [level for level in levels if _FINEST <= level.stride <= _COARSEST] or list(levels)
    units = [1 / canvases.fit(each.size, canvas).scale_x for each in own]
    smallest = canvases.smallest_side(units, [each.boxes_M4 for each in own], [each.truth.label_B for each in own])
    at = max((at for at in range(len(usable) - 1) if smallest >= _PLACES * usable[at].stride), default=0)
    return tuple(usable[at:])
