"""The rows of a run as the learner uses them: those to learn from, those held out, and what could not be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.datasets.examples import Answer, Conversation
from models.learning.contract.errors import NothingFits, RowsTooLong
from models.learning.data.corpus import Corpus
from models.learning.generation import rows as token_rows
from models.learning.generation.rows import TokenRow
from models.learning.run import Run

TextRow = tuple[Conversation, Answer]

_FEWEST_HELD, _MOST_HELD = 4, 200
_SHARE_HELD = 10  # one row in ten
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows: their texts, their tokens behind no examples, and where they are in the corpus."""

    texts: list[TextRow]
    tokens: list[TokenRow]
    places: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> Part:
        """Return the first rows."""
        return Part(self.texts[:count], self.tokens[:count], self.places[:count])

    def take(self, rows: Sequence[int]) -> Part:
        """Return some rows, in this order."""
        return Part([self.texts[at] for at in rows], [self.tokens[at] for at in rows], [self.places[at] for at in rows])


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is judged on."""

    plain: Prompt  # the system message that all rows share, and no examples
    training: Part
    held: Part
    pairs: bool  # rows have a rejected answer
    figures: dict[str, Any] = field(default_factory=dict)  # of the report

    @property
    def tokens(self) -> int:
        """Tokens of the rows that are learned from."""
        return sum(map(len, self.training.tokens))


def collect(run: Run, backbone: DecoderBackbone) -> Material:
    """Return the rows of both files, or some of the training file's held out.

    Raises RowsTooLong where rows that exceed the context are not to be cut, and NothingFits.
    """
    training = _texts(run.training)
    plain = Prompt("zero-shot", token_rows.common_system([row[0] for row in training]), form=training[0][0].form)
    own = _tokens(run, backbone, training, plain, run.training)
    cut = [int(run.training.rows[place]) for place, row in zip(own.places, own.tokens, strict=True) if row.cut]
    pairs = all(answer.rejected is not None for _, answer in training)
    figures: dict[str, Any] = {"rows_cut": {"count": len(cut), "rows": cut[:_SHOWN]}} if cut else {}
    if left := len(training) - len(own):
        figures["rows_without_room"] = left
    if run.validation is not None:
        others = _texts(run.validation)
        held = _tokens(run, backbone, others, plain, run.validation).first(_MOST_HELD)
        return Material(plain, own, held, pairs, figures)
    held_rows = _held_out(run.training, own)
    rest = [at for at in range(len(own)) if at not in held_rows]
    return Material(plain, own.take(rest), own.take(sorted(held_rows)), pairs, figures)


def _held_out(corpus: Corpus, own: Part) -> set[int]:
    """Return which rows are held out: about one in ten, by the hash of what they ask, whatever the seed is.

    So a later job on a file that has grown holds the same rows out, and new ones besides: its version is compared with
    this one's on rows of which neither has learned. Rows that are alike are together, here or there.
    """
    wanted = min(_MOST_HELD, max(_FEWEST_HELD, len(own) // _SHARE_HELD), len(own) // 2)
    groups: dict[int, list[int]] = {}
    for at, group in enumerate(corpus.groups.group_N[own.places].tolist()):
        groups.setdefault(group, []).append(at)
    keys = corpus.input_keys_N[own.places].tolist()
    chosen: set[int] = set()
    for members in sorted(groups.values(), key=lambda rows: min(keys[at] for at in rows)):
        if len(chosen) + len(members) <= wanted:
            chosen.update(members)
    if len(chosen) >= min(_FEWEST_HELD, wanted):
        return chosen
    # A few questions with many answers each: their rows cannot be kept together.
    row_keys_N = corpus.row_keys_N[own.places]
    return set(np.argsort(row_keys_N, kind="stable")[:wanted].tolist())


def _texts(corpus: Corpus) -> list[TextRow]:
    rows: list[TextRow] = []
    for conversation, answer in zip(corpus.inputs, corpus.targets, strict=True):
        assert isinstance(conversation, Conversation)  # noqa: S101  (what the task's parse makes)
        rows.append((conversation, answer))
    return rows


def _tokens(run: Run, backbone: DecoderBackbone, texts: Sequence[TextRow], plain: Prompt, corpus: Corpus) -> Part:
    """Return the rows as tokens, without those of whose answer nothing is left."""
    tokens = []
    for conversation, answer in texts:
        run.check_stop()
        tokens.append(token_rows.encode(backbone, conversation, answer, plain))
    if run.request.hyperparameters.long_rows == "refuse":
        long = [int(corpus.rows[at]) for at, row in enumerate(tokens) if row.cut]
        if long:
            listed = ", ".join(map(str, long[:_SHOWN])) + (", …" if len(long) > _SHOWN else "")
            raise RowsTooLong(count=len(long), rows=listed, limit=backbone.max_tokens)
    kept = [at for at, row in enumerate(tokens) if row.learned]
    if len(kept) < _FEWEST_HELD:
        raise NothingFits(rows=len(kept), limit=backbone.max_tokens)
    return Part([texts[at] for at in kept], [tokens[at] for at in kept], kept)
