"""Tables of what `auto` decides, rule by rule; nothing is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.learning.search import policy
from models.learning.search.policy import JobFacts, TrialFigures

JOB = JobFacts(rows=1_000, answers=1_000, large=False, similar=True, blocks=12, linear_layers=True, partial_blocks=6)
# As many held-out rows as are no handful; a little better than the head, in answers and in loss.
BETTER = TrialFigures(answers=800, gain=0.02, probability=0.8, new_loss=0.50, old_loss=0.52, loss_noise=0.02)


@pytest.mark.parametrize(
    ("rows_per_class", "width", "size"), [(95.9, 384, "small"), (96, 384, "large"), (96, 768, "small")]
)
def test_size(rows_per_class: float, width: int, size: str) -> None:
    assert policy.size_of(rows_per_class, width) == size


@pytest.mark.parametrize(
    ("separability", "beaten", "similarity"),
    [(0.69, False, "different"), (0.7, False, "similar"), (0.99, True, "different")],
)
def test_similarity(separability: float, beaten: bool, similarity: str) -> None:
    assert policy.similarity_of(separability, terms_beat_features=beaten) == similarity


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({}, ["partial", "partial 4", "lora"]),
        ({"large": True}, ["partial", "partial 4", "lora", "full"]),
        ({"similar": False}, ["partial", "partial 4", "lora", "full"]),
        ({"similar": False, "rows": 20_000}, ["partial", "partial 4", "lora", "full", "scratch"]),
        ({"similar": True, "large": True, "rows": 20_000}, ["partial", "partial 4", "lora", "full"]),
        # A base without linear layers cannot take low-rank matrices.
        ({"linear_layers": False}, ["partial", "partial 4"]),
        ({"linear_layers": False, "answers": 60}, ["partial", "partial 4"]),
        # A few blocks are all of them.
        ({"blocks": 2, "partial_blocks": 2}, ["partial", "partial 1", "lora"]),
        ({"blocks": 1, "partial_blocks": 1}, ["partial", "lora"]),
        # The customer set how many blocks train.
        ({"partial_blocks": None}, ["partial", "lora"]),
        ({"partial_blocks": None, "answers": 60}, ["partial", "lora"]),
        # Few answers, of however many rows.
        ({"rows": 30, "answers": 201}, ["partial", "partial 4", "lora"]),
        ({"answers": 100, "similar": False, "large": True}, ["lora"]),
        # Texts of one label each, enough of a class for pairs.
        ({"answers": 100, "contrasted_rows": 4}, ["contrastive", "lora"]),
        ({"answers": 100, "contrasted_rows": 3.9}, ["lora"]),
        ({"answers": 100, "contrasted_rows": 10, "linear_layers": False}, ["partial", "partial 4"]),
        ({"answers": 101, "contrasted_rows": 10}, ["partial", "lora"]),
        ({"answers": 101, "similar": False, "large": True}, ["partial", "lora"]),
        ({"answers": 200}, ["partial", "lora"]),
        ({"answers": 201}, ["partial", "partial 4", "lora"]),
    ],
)
def test_which_candidates_make_sense(facts: dict[str, object], names: list[str]) -> None:
    found = policy.list_strategies(replace(JOB, **facts))  # type: ignore[arg-type]
    assert [strategy if blocks is None else f"{strategy} {blocks}" for strategy, blocks in found] == names


@pytest.mark.parametrize(("separability", "expected"), [(None, 0.08), (0.7, 0.08), (0.69, 0.25)])
def test_the_default_expectation(separability: float | None, expected: float) -> None:
    assert policy.default_error_reduction(separability) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], 0.08),
        ([(1.0, 0.2)], 0.14),  # one job in the very same situation counts like the default
        ([(1.0, 0.2), (1.0, 0.2)], 0.16),
        ([(0.5, 0.2)], 0.12),  # half as near, half the weight
        ([(1.0, -0.5)], 0.04),  # worse than the head is never published: no reduction, no loss
    ],
)
def test_what_earlier_jobs_make_expect(seen: list[tuple[float, float]], expected: float) -> None:
    assert policy.expected_error_reduction(seen, 0.08) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seen", "epochs"),
    [
        ([], 6),
        ([(1.0, 3)], 6),  # one job is not enough
        ([(1.0, 5), (1.0, 5)], 5),
        ([(1.0, 4), (1.0, 5)], 5),  # rounded up
        ([(1.0, 1), (1.0, 1)], 4),  # never less than 0.6 of the default
        ([(1.0, 9), (1.0, 9)], 6),  # never more than the default
    ],
)
def test_epochs_follow_earlier_jobs(seen: list[tuple[float, int]], epochs: int) -> None:
    assert policy.choose_epochs(seen, 6) == epochs


@pytest.mark.parametrize(("jobs", "known"), [(0.0, False), (1.0, False), (1.49, False), (1.5, True)])
def test_two_jobs_that_were_nearly_the_same_are_enough(jobs: float, known: bool) -> None:
    assert policy.is_known(jobs) == known


@pytest.mark.parametrize(
    ("reduction", "score", "answers", "strategy"),
    [
        (0.08, 0.86, 1_000, "partial"),  # 1.12 points to win, 0.75 of noise
        (0.08, 0.86, 400, None),  # 1.18 of noise
        (0.08, 0.70, 200, None),  # 200 sentences, one span each
        (0.08, 0.70, 1_600, "partial"),  # as many sentences, eight each
        (0.25, 0.86, 400, "partial"),
        (0.08, 0.99, 1_000, None),
        (0.08, 0.99, 10_000, "partial"),
        (0.08, 1.0, 80, None),  # nothing to win
    ],
)
def test_whether_a_search_is_worth_it(reduction: float, score: float, answers: float, strategy: str | None) -> None:
    verdict = policy.worth_trying({"lora": reduction / 2, "partial": reduction}, score=score, answers=answers)
    assert verdict.strategy == strategy
    assert verdict.expected_gain == pytest.approx(reduction * (1 - score))
    assert "to win" in verdict.reason


def test_the_reason_is_said_in_figures_that_say_something() -> None:
    def reason(score: float, answers: float) -> str:
        return policy.worth_trying({"lora": 0.08}, score=score, answers=answers).reason

    assert reason(1.0, 80) == "no held-out answer is wrong: nothing is left to win"
    few = "the 0.01% errors leave about 0.0008% to win, less than the 0.0632% that are noise"
    assert reason(0.9999, 100) == few
    assert reason(0.5, 100) == "the 50% errors leave about 4% to win, less than the 4.47% that are noise"


@pytest.mark.parametrize(
    ("expected", "known", "entrants"),
    [
        ({"partial": 0.08, "lora": 0.08}, set(), ["partial", "lora"]),
        ({"partial": 0.08, "lora": 0.10}, set(), ["lora", "partial"]),
        ({"partial": 0.08, "lora": 0.13}, set(), ["lora"]),  # even with luck `partial` would not reach it
        ({"partial": 0.08, "lora": 0.10}, {"partial"}, ["lora"]),  # known, so no luck is to be expected
        ({"partial": 0.08, "lora": 0.10}, {"lora"}, ["lora", "partial"]),
        ({"partial": 0.08, "lora": 0.08, "full": 0.09}, {"partial", "lora", "full"}, ["full"]),
        # Of sixty rows: one earlier job of two in which contrasting looked no better, then another.
        ({"contrastive": 0.22, "lora": 0.25}, {"contrastive"}, ["contrastive", "lora"]),
        ({"contrastive": 0.22, "lora": 0.25}, {"contrastive", "lora"}, ["contrastive", "lora"]),
        ({"contrastive": 0.12, "lora": 0.25}, {"contrastive"}, ["lora"]),
        ({"contrastive": 0.25, "lora": 0.25}, set(), ["contrastive", "lora"]),
    ],
)
def test_which_candidates_race(expected: dict[str, float], known: set[str], entrants: list[str]) -> None:
    assert policy.choose_entrants(expected, known) == entrants


@pytest.mark.parametrize(("answers", "races"), [(60, False), (200, False), (201, True)])
def test_noise_would_decide_a_race_on_a_handful(answers: float, races: bool) -> None:
    assert policy.may_race(answers) == races


@pytest.mark.parametrize(("probability", "clear"), [(0.1, True), (0.11, False), (0.97, False), (0.98, True)])
def test_when_a_trial_is_clear(probability: float, clear: bool) -> None:
    assert policy.is_clear(probability) == clear


@pytest.mark.parametrize(
    ("figures", "improves"),
    [
        ({}, True),
        ({"gain": 0.0}, False),
        ({"new_loss": 0.53}, False),  # more right answers, but not clearly, and the loss says the contrary
        ({"new_loss": 0.53, "probability": 0.9}, True),
        ({"gain": -0.01, "new_loss": 0.40}, False),
        # A handful of rows: a clearly lower loss decides, unless the answers clearly say the contrary.
        ({"answers": 200, "gain": -0.01, "probability": 0.2, "new_loss": 0.40}, True),
        ({"answers": 200, "gain": -0.01, "probability": 0.1, "new_loss": 0.40}, False),
        ({"answers": 200, "gain": -0.01, "probability": 0.2, "new_loss": 0.49}, False),
        ({"answers": 201, "gain": -0.01, "probability": 0.2, "new_loss": 0.40}, False),
    ],
)
def test_when_a_candidate_improves_on_the_head(figures: dict[str, float], improves: bool) -> None:
    assert policy.improves(replace(BETTER, **figures)) == improves  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "hopeless"),
    [
        ({}, False),
        ({"gain": 0.0, "new_loss": 0.57}, True),
        ({"gain": 0.0, "new_loss": 0.56}, False),  # two standard errors behind
        ({"gain": 0.01, "new_loss": 0.90}, False),
    ],
)
def test_when_a_short_refinement_is_hopeless(figures: dict[str, float], hopeless: bool) -> None:
    assert policy.is_hopeless(replace(BETTER, **figures)) == hopeless  # type: ignore[arg-type]
