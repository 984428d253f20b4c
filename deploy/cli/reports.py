"""A report in readable form: figures of each class, doubtful rows, what was tried and why it stopped."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from deploy.cli.console import out, show_table

_CLASSES = 40
_ISSUES = 10
# Where a candidate left the search, in words.
_LEFT = {
    "trial": "no better than the first version in its trial",
    "budget": "more than the time budget would have been needed",
    "diverged": "its loss diverged",
}
_TRAINED = "trained on all rows"


def score_of(report: dict[str, Any] | None) -> str:
    """Return metric, score and interval in one line, "" where there is no score."""
    report = report or {}
    score = report.get("score")
    if not isinstance(score, int | float):
        return ""
    low, high = report.get("score_low"), report.get("score_high")
    interval = f" ({low:.3f} to {high:.3f})" if isinstance(low, int | float) and isinstance(high, int | float) else ""
    return f"{report.get('metric', 'score')} {score:.3f}{interval}"


def show_report(report: dict[str, Any]) -> None:
    """Print everything in a report that a reader may act on; what it lacks is left out."""
    _show_classes(report)
    _show_values(report)
    _show_issues(report)
    _show_search(report)


def learning_curve_line(report: dict[str, Any] | None) -> str:
    """Return what further rows are worth; "" where the report says nothing of it."""
    return str(((report or {}).get("learning_curve") or {}).get("sentence", ""))


def refinement_line(report: dict[str, Any] | None) -> str:
    """Return why refinement stopped, or was not begun; "" where the report says nothing of it."""
    found = (report or {}).get("refinement") or {}
    if not found:
        return ""
    tried = [entry for entry in found.get("candidates", []) if entry.get("left_at") not in (None, "not entered")]
    if not tried:
        return f"not tried: {found.get('reason', '')}"
    return "; ".join(f"{entry['name']}: {_why(entry)}" for entry in tried)


def _why(entry: dict[str, Any]) -> str:
    left = entry["left_at"]
    if left == _TRAINED:
        # A strategy that the job names is trained whatever its trial gave. Reports of earlier releases do not say.
        trials: dict[bool | None, str] = {True: "better in its trial, ", False: f"{_LEFT['trial']}, but asked for: "}
        return f"{trials.get(entry.get('improves'), '')}{left}"
    return f"behind the others on {left}" if left.startswith("rung") else _LEFT.get(left, left)


def _show_classes(report: dict[str, Any]) -> None:
    figures = report.get("per_class") or []
    if not figures:
        return
    # The worst first: they are the ones to act on.
    shown = sorted(figures, key=lambda entry: (entry["f1"], entry["label"]))[:_CLASSES]
    _heading(f"Classes, the worst first{f' ({_CLASSES} of {len(figures)})' if len(figures) > _CLASSES else ''}")
    rows = [
        [entry["label"], *(f"{entry[name]:.3f}" for name in ("precision", "recall", "f1")), entry["support"]]
        for entry in shown
    ]
    show_table(["label", "precision", "recall", "f1", "rows"], rows, empty="")


def _show_values(report: dict[str, Any]) -> None:
    figures = report.get("regression") or {}
    if figures:
        _heading("Errors")
        out.print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def _show_issues(report: dict[str, Any]) -> None:
    issues = report.get("suspects") or []
    if not issues:
        return
    more = f", {len(issues) - _ISSUES} more in the report" if len(issues) > _ISSUES else ""
    _heading(f"Rows whose label may be wrong{more}")
    rows = [
        [entry["row"], entry["label"], entry["suggested"], f"{entry['confidence']:.2f}"] for entry in issues[:_ISSUES]
    ]
    show_table(["row", "label", "rather", "probability"], rows, empty="")


def _show_search(report: dict[str, Any]) -> None:
    tried = report.get("strategies_tried") or []
    if tried:
        _heading("Strategies")
        rows = [
            [
                entry["name"],
                f"{entry['score']:.3f}" if isinstance(entry.get("score"), int | float) else "",
                f"{entry['seconds']:.1f} s" if isinstance(entry.get("seconds"), int | float) else "",
            ]
            for entry in tried
        ]
        show_table(["strategy", "score", "took"], rows, empty="")
    why = refinement_line(report)
    if why:
        _heading("Refinement")
        out.print(Text(why))


def _heading(text: str) -> None:
    out.print()
    out.print(Text(text, style="bold"))
