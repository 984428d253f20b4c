"""Choosing tokens, and cutting text at stop strings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.serving.generation.sampling import Sampler, SamplingParams, cut_for_stop

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))


def _drawn(count: int = 2_000, **params: object) -> np.ndarray:
    sampler = Sampler(SamplingParams(max_tokens=1, **params))  # type: ignore[arg-type]
    return np.bincount([sampler.choose(LOGITS).token for _ in range(count)], minlength=4) / count


def test_greedy_takes_the_first_of_the_best() -> None:
    assert Sampler(SamplingParams(1, temperature=0)).choose(np.array([1, 3, 3], np.float32)).token == 1
    assert _drawn(20, top_p=0)[0] == 1


@pytest.mark.parametrize("temperature", [1e-44, 1e-46, 1e-300])
def test_temperatures_next_to_0_are_greedy(temperature: float) -> None:
    for top_p in (1.0, 0.9):
        assert _drawn(20, temperature=temperature, top_p=top_p)[0] == 1


def test_draws_follow_the_probabilities_and_the_temperature() -> None:
    assert _drawn(seed=1) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.04)
    sharp = np.exp(LOGITS / 0.5)
    assert _drawn(seed=1, temperature=0.5) == pytest.approx(sharp / sharp.sum(), abs=0.04)


def test_top_p_leaves_out_the_improbable() -> None:
    shares = _drawn(seed=1, top_p=0.7)
    assert shares == pytest.approx([0.625, 0.375, 0, 0], abs=0.04)
    assert _drawn(50, top_p=0.01)[0] == 1


def test_a_seed_repeats_the_answer_and_choices_differ() -> None:
    def tokens(choice: int = 0, seed: int | None = 5) -> list[int]:
        sampler = Sampler(SamplingParams(1, seed=seed), choice=choice)
        return [sampler.choose(LOGITS).token for _ in range(30)]

    assert tokens() == tokens()
    assert tokens() != tokens(choice=1)
    assert tokens() != tokens(seed=6)
    assert tokens(seed=-1) == tokens(seed=-1)


def test_penalties_and_bias_move_the_choice() -> None:
    sampler = Sampler(SamplingParams(1, temperature=0, frequency_penalty=0.4))
    assert [sampler.choose(LOGITS).token for _ in range(3)] == [0, 0, 1]
    assert Sampler(SamplingParams(1, temperature=0, logit_bias={3: 100.0})).choose(LOGITS).token == 3


def test_only_what_is_allowed_is_chosen() -> None:
    allowed = np.array([False, False, True, True])
    chosen = Sampler(SamplingParams(1, temperature=0, logprobs=2)).choose(LOGITS, allowed)
    assert chosen.token == 2
    assert chosen.logprob == pytest.approx(math.log(0.75))
    assert [token for token, _ in chosen.top] == [2, 3]


def test_log_probabilities_are_the_models_own() -> None:
    chosen = Sampler(SamplingParams(1, temperature=0.1, logprobs=2, seed=1)).choose(LOGITS)
    assert chosen.logprob == pytest.approx(math.log(0.5), abs=1e-6)
    assert chosen.top[1] == (1, pytest.approx(math.log(0.3), abs=1e-6))


def test_a_text_is_cut_at_the_first_stop_string() -> None:
    assert cut_for_stop("one END two STOP", ("STOP", "END")) == (4, True)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    assert cut_for_stop("one EN", ("END",)) == (4, False)
    assert cut_for_stop("one ENT", ("END",)) == (7, False)
    assert cut_for_stop("ababa", ("ababab",)) == (0, False)
