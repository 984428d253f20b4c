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
_SETS = 3  # of examples that are compared
JUDGED_ROWS = 8  # held-out rows by which they are
_PROMPT_TOKENS = 1_024  # of a set, and at most a quarter of what the base reads
_LONGEST_CANDIDATE = 4  # times the median row


@dataclass(frozen=True, slots=True)
class Choice:
    """The prompt that was chosen, and how it does on the rows by which it was."""

    prompt: Prompt
    scores: RowScores
    tried: int


def choose(
    backbone: DecoderBackbone,
    training: Sequence[tuple[Conversation, Answer]],
    lengths_N: NDArray[np.int64],
    held: Sequence[tuple[Conversation, Answer]],
    plain: Prompt,
    *,
    seed: int,
    stop: Callable[[], bool],
    must: bool = False,
) -> Choice:
    """Return the best of some prompts on held-out rows, `plain`, without examples, among them unless it `must` not."""
    prompts = [] if must else [plain]
    for picked in _sets(lengths_N, backbone.max_tokens, seed):
        examples = tuple(token_rows.as_example(*training[row]) for row in picked)
        prompts.append(Prompt("few-shot", plain.system, examples, plain.form))
    network = frozen(backbone)
    best: Choice | None = None
    for prompt in prompts or [plain]:
        rows = [token_rows.encode(backbone, *row, prompt) for row in held]
        found = scoring.score(network, rows, threads=backbone.threads, stop=stop, tokens=_pass_tokens(rows, backbone))
        if best is None or found.loss < best.scores.loss:
            best = Choice(prompt, found, len(prompts))
    assert best is not None  # noqa: S101  (there is always a prompt)
    return best


def _sets(lengths_N: NDArray[np.int64], max_tokens: int, seed: int) -> list[list[int]]:
    """Return sets of rows that are not much longer than most and fit into a prompt together."""
    generator = np.random.default_rng((seed, 5))
    room = min(_PROMPT_TOKENS, max_tokens // 4)
    usable = np.flatnonzero(lengths_N <= max(_LONGEST_CANDIDATE * np.median(lengths_N), 1))
    found: list[list[int]] = []
    for _ in range(_SETS):
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
