"""Promotion of a job's best version: a decision on plain numbers, and a sentence with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from models.errors import InvalidRequest
from models.learning.contract.comparison import LiveComparison

Rule = Literal["auto", "always", "never"]
RULES: tuple[Rule, ...] = get_args(Rule)
DEFAULT: Rule = "auto"

# Probability of a gain from which the new version counts as better, and above which as no worse. Measured on pairs of
# versions, see decision 0028: the first bounds how often an equally good one on the same data replaces the other.
BETTER = 0.95
NO_WORSE = 0.25
_LABELS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NewVersion:
    """The best version of a job that ends."""

    number: int
    rows: int | None  # of its training file; None: not known
    score: float | None
    majority: float | None  # what an answer that reads no input scores on the same rows
    beside: str = "always giving the most frequent answer"  # or what else the least score is that of


@dataclass(frozen=True, slots=True)
class Live:
    """The version that is live when the job ends."""

    number: int
    rows: int | None
    score: float | None = None  # on held-out rows of its own job


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision whether the new version goes live, and its reason."""

    promoted: bool
    reason: str


def check(rule: str) -> None:
    """Raise InvalidRequest unless it is a rule."""
    if rule not in RULES:
        raise InvalidRequest(reason=f"promote is one of {', '.join(RULES)}; it is '{rule[:40]}'.", param="promote")


def decide(
    rule: str,
    new: NewVersion,
    live: Live | None,
    comparison: LiveComparison | None,
    *,
    serving: int | None = None,
) -> Decision:
    """Decide by the rule; `comparison` is that of the new version with the one that was live while the job ran.

    `serving`: the version that answers meanwhile, be it an earlier one of the same job, for the reason's words.
    `auto`: not below the majority, no label lost, and better than the live version on the same held-out rows, or no
    worse on more data. Of a live version that cannot be read the majority alone decides; where a
    learner makes no comparison, each version's own score does.
    """
    stays = f"Version {serving} stays live." if serving is not None else "No version is live."
    if rule == "never":
        return Decision(False, f"promote is 'never': version {new.number} waits to be promoted by hand. {stays}")
    if rule == "always":
        return Decision(True, f"promote is 'always': version {new.number} goes live without being compared.")
    if is_below_majority(new):
        reason = (
            f"Version {new.number} scores {new.score:.3f}, below the {new.majority:.3f} of {new.beside}: it does not "
            f"go live by itself. {stays}"
        )
        return Decision(False, reason)
    if live is None:
        return Decision(True, f"Version {new.number} is the first to go live.")
    return _replace(new, live, comparison)


def is_below_majority(new: NewVersion) -> bool:
    """Return whether a version is worse than an answer that reads no input, such as always the most frequent one."""
    return new.score is not None and new.majority is not None and new.score < new.majority


def _replace(new: NewVersion, live: Live, comparison: LiveComparison | None) -> Decision:
    if comparison is None:
        if new.score is not None and live.score is not None and new.score < live.score:
            reason = (
                f"Version {live.number} stays live: version {new.number} scores {new.score:.3f}, below its "
                f"{live.score:.3f}, each on held-out rows of its own job; on the same rows they were not compared."
            )
            return Decision(False, reason)
        return Decision(True, f"Version {new.number} replaces version {live.number}; they were not compared.")
    if comparison.live != live.number:
        reason = (
            f"Version {live.number} went live while the job ran, and version {new.number} was not compared with it: "
            f"version {live.number} stays live."
        )
        return Decision(False, reason)
    if comparison.broken:
        reason = f"Version {new.number} replaces version {live.number}, which cannot answer: {comparison.problem}."
        return Decision(True, reason)
    if comparison.problem:
        reason = f"Version {live.number} stays live: it cannot be compared, {comparison.problem}."
        return Decision(False, reason)
    return _weigh(new, live, comparison)


def _weigh(new: NewVersion, live: Live, found: LiveComparison) -> Decision:
    figures = _figures(new, live, found)
    stays, goes = f"Version {live.number} stays live", f"Version {new.number} goes live"
    if found.labels_lost:
        lost = _listed(found.labels_lost)
        return Decision(False, f"{stays}: version {new.number} no longer knows {lost}. {figures}")
    if found.gain > 0 and found.probability >= BETTER:
        return Decision(True, f"{goes}: it is better. {figures}")
    more = new.rows is not None and live.rows is not None and new.rows > live.rows
    if found.probability < NO_WORSE:
        return Decision(False, f"{stays}: the new version seems worse. {figures}")
    if more:
        return Decision(True, f"{goes}: it is no worse, on {new.rows} rows instead of {live.rows}. {figures}")
    return Decision(False, f"{stays}: the new version is not better, and not on more data. {figures}")


def _figures(new: NewVersion, live: Live, found: LiveComparison) -> str:
    which = "rows, on some of which the live version may have been trained" if found.seen else "rows held out of both"
    added = f" Labels that are new: {_listed(found.labels_added)}." if found.labels_added else ""
    return (
        f"On {found.rows} {which}, version {new.number} has {found.metric} {found.score:.3f} and version {live.number} "
        f"{found.live_score:.3f}: {found.gain:+.3f} ({found.low:+.3f} to {found.high:+.3f}).{added}"
    )


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:_LABELS_SHOWN])
    return shown + (f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else "")
