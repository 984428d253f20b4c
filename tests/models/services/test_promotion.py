"""What goes live, from plain numbers: one line per situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.learning.contract.comparison import LiveComparison
from models.services.promotion import Live, NewVersion, decide

NEW = NewVersion(number=2, rows=400, score=0.90, majority=0.25)
LIVE = Live(number=1, rows=400)
EVEN = LiveComparison(
    live=1, metric="accuracy", rows=400, score=0.90, live_score=0.90, gain=0.0, low=-0.02, high=0.02, probability=0.5
)
BETTER = replace(EVEN, score=0.93, gain=0.03, low=0.01, high=0.05, probability=0.99)
WORSE = replace(EVEN, score=0.80, gain=-0.10, low=-0.13, high=-0.07, probability=0.0)
MORE = replace(NEW, rows=800)


@pytest.mark.parametrize(
    ("situation", "new", "live", "comparison", "goes", "words"),
    [
        ("the first version", NEW, None, None, True, "first to go live"),
        ("the first version, below the majority", replace(NEW, score=0.2), None, None, False, "below the 0.250"),
        ("shuffled labels", replace(NEW, score=0.17), LIVE, WORSE, False, "below the 0.250"),
        ("labels shuffled in part", NEW, LIVE, WORSE, False, "worse"),
        ("labels shuffled in part, more rows", MORE, LIVE, WORSE, False, "accuracy 0.800 and version 1 0.900"),
        ("better on the same data", NEW, LIVE, BETTER, True, "it is better"),
        ("better on less data", replace(NEW, rows=200), LIVE, BETTER, True, "+0.030 (+0.010 to +0.050)"),
        ("as good on the same data", NEW, LIVE, EVEN, False, "not on more data"),
        ("as good on more data", MORE, LIVE, EVEN, True, "on 800 rows instead of 400"),
        ("a little worse on more data", MORE, LIVE, replace(EVEN, gain=-0.005, probability=0.3), True, "no worse"),
        ("a little better by luck", NEW, LIVE, replace(EVEN, gain=0.005, probability=0.8), False, "not better"),
        ("fewer classes", MORE, LIVE, replace(BETTER, labels_lost=("refund",)), False, "no longer knows 'refund'"),
        ("more classes", MORE, LIVE, replace(EVEN, labels_added=("loan",)), True, "Labels that are new: 'loan'"),
        ("other classes", NEW, LIVE, LiveComparison(1, problem="they share no label"), False, "share no label"),
        ("rows that the live one may know", MORE, LIVE, replace(EVEN, seen=True), True, "may have been trained"),
        ("the live one cannot be read", NEW, LIVE, LiveComparison(1, problem="x", broken=True), True, "cannot answer"),
        ("another went live meanwhile", NEW, replace(LIVE, number=7), BETTER, False, "went live while the job ran"),
        ("rows of the live one not known", MORE, replace(LIVE, rows=None), EVEN, False, "not on more data"),
        ("no comparison", NEW, LIVE, None, True, "not compared"),
        ("no comparison, a lower score", NEW, replace(LIVE, score=0.99), None, False, "below its 0.990"),
    ],
)
def test_auto(
    situation: str, new: NewVersion, live: Live | None, comparison: LiveComparison | None, goes: bool, words: str
) -> None:
    decision = decide("auto", new, live, comparison)
    assert decision.promoted is goes, situation
    assert words in decision.reason


@pytest.mark.parametrize("comparison", [None, BETTER, WORSE, EVEN])
@pytest.mark.parametrize("live", [None, LIVE])
def test_the_other_rules_ask_nothing(live: Live | None, comparison: LiveComparison | None) -> None:
    assert decide("always", replace(NEW, score=0.1), live, comparison).promoted
    assert not decide("never", NEW, live, comparison).promoted


@pytest.mark.parametrize(("rule", "new"), [("never", NEW), ("auto", replace(NEW, score=0.1))])
def test_what_stays_live_is_said(rule: str, new: NewVersion) -> None:
    assert decide(rule, new, LIVE, None, serving=1).reason.endswith("Version 1 stays live.")
    assert decide(rule, new, None, None).reason.endswith("No version is live.")


def test_many_labels_are_not_all_listed() -> None:
    lost = tuple(f"label {number:02}" for number in range(30))
    assert "'label 04' and 25 more" in decide("auto", NEW, LIVE, replace(EVEN, labels_lost=lost)).reason
