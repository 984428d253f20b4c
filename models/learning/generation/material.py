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
from models.learning.data.folds import keep_together, stratified_folds
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
    cut = [int(run.training.rows[place]) for place in own.places if own.tokens[own.places.index(place)].cut]
    pairs = all(answer.rejected is not None for _, answer in training)
    figures: dict[str, Any] = {"rows_cut": {"count": len(cut), "rows": cut[:_SHOWN]}} if cut else {}
    if left := len(training) - len(own):
        figures["rows_without_room"] = left
    if run.validation is not None:
        others = _texts(run.validation)
        held = _tokens(run, backbone, others, plain, run.validation).first(_MOST_HELD)
        return Material(plain, own, held, pairs, figures)
    held_count = min(_MOST_HELD, max(_FEWEST_HELD, len(own) // _SHARE_HELD))
    folds = max(2, round(len(own) / held_count))
    duplicates_N = run.training.duplicates_N[own.places]
    fold_N = stratified_folds(np.zeros(len(own), dtype=np.int64), folds, seed=run.request.seed)
    fold_N = keep_together(fold_N, duplicates_N)
    chosen = set(np.flatnonzero(fold_N == 0)[:_MOST_HELD].tolist())
    return Material(
        plain,
        _take(own, [at for at in range(len(own)) if fold_N[at] != 0]),
        _take(own, sorted(chosen)),
        pairs,
        figures,
    )


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


def _take(part: Part, rows: Sequence[int]) -> Part:
    return Part([part.texts[at] for at in rows], [part.tokens[at] for at in rows], [part.places[at] for at in rows])
