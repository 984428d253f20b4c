"""Few-shot prompts: sets of training rows as examples, and which of them makes held-out answers likeliest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.datasets.examples import Answer, Conversation
from models.learning.generation import rows as token_rows
from models.learning.generation import scoring
from models.learning.generation.network import frozen
from models.learning.generation.scoring import RowScores

EXAMPLES = 5
# Sets of examples that are compared, and the held-out rows by which they are. Where weights are trained behind it the
# prompt answers for minutes, and should do so within seconds.
SETS, JUDGED_ROWS = 3, 8
SOON_SETS, SOON_JUDGED_ROWS = 1, 4
_PROMPT_TOKENS = 1_024  # of a set, and at most a quarter of what the base reads
_LONGEST_CANDIDATE = 4  # times the median row


@dataclass(frozen=True, slots=True)
class Choice:
    """The prompt that was chosen, and how it and none do on the rows by which it was."""

    prompt: Prompt
    scores: RowScores
    plain: RowScores  # without examples
    rows: tuple[int, ...] = ()  # those that stand in it, of the training rows


def choose(
    backbone: DecoderBackbone,
    training: Sequence[tuple[Conversation, Answer]],
    lengths_N: NDArray[np.int64],
    held: Sequence[tuple[Conversation, Answer]],
    plain: Prompt,
    *,
    seed: int,
    stop: Callable[[], bool],
    sets: int = SETS,
    must: bool = False,
) -> Choice:
    """Return the best of some prompts on held-out rows, `plain`, without examples, among them unless it `must` not."""
    network = frozen(backbone)

    def score(prompt: Prompt) -> RowScores:
        rows = [token_rows.encode(backbone, *row, prompt) for row in held]
        return scoring.score(network, rows, threads=backbone.threads, stop=stop, tokens=_pass_tokens(rows, backbone))

    alone = score(plain)
    choices = []
    for picked in _sets(lengths_N, backbone.max_tokens, sets, seed):
        examples = tuple(token_rows.as_example(*training[row]) for row in picked)
        prompt = Prompt("few-shot", plain.system, examples, plain.form)
        choices.append(Choice(prompt, score(prompt), alone, tuple(picked)))
    if not choices or not must:
        choices.insert(0, Choice(plain, alone, alone))
    return min(choices, key=lambda choice: choice.scores.loss)


def _sets(lengths_N: NDArray[np.int64], max_tokens: int, sets: int, seed: int) -> list[list[int]]:
    """Return sets of rows that are not much longer than most and fit into a prompt together."""
    generator = np.random.default_rng((seed, 5))
    room = min(_PROMPT_TOKENS, max_tokens // 4)
    usable = np.flatnonzero(lengths_N <= max(_LONGEST_CANDIDATE * np.median(lengths_N), 1))
    found: list[list[int]] = []
    for _ in range(sets):
        picked: list[int] = []
        used = 0
        for row in generator.permutation(usable):
            if used + lengths_N[row] <= room:
                picked.append(int(row))
                used += int(lengths_N[row])
            if len(picked) == EXAMPLES:
                break
        if picked and sorted(picked) not in [sorted(other) for other in found]:
            found.append(picked)
    return found


def _pass_tokens(rows: Sequence[token_rows.TokenRow], backbone: DecoderBackbone) -> int:
    """Return the tokens of a pass at which every thread gets one: the examples are computed once in each."""
    prefix = token_rows.shared_prefix(rows)
    behind = sum(len(row) - prefix for row in rows)
    return prefix + max(512, -(-behind // backbone.threads))
