"""The table says what was measured, also when the goal was missed or nothing could be measured."""

from __future__ import annotations

from typing import Any

from tests.benchmarks import serving_table

_MACHINE = {"processor": "Some CPU", "cores": 2, "python": "3.11"}
_DOCUMENT = "before\n<!-- serving: written by a command -->\nold\n<!-- /serving -->\nafter\n"


def _saved(**rows: dict[str, Any]) -> dict[str, Any]:
    common = {"at": 0.0, "rounds_asked": 5}
    return {"machine": _MACHINE, "data": "some texts", "rows": {name: row | common for name, row in rows.items()}}


def _flood(value: float) -> dict[str, Any]:
    return {"value": value, "p99_ms": {"flooded": 10 * value, "quiet": 10.0}}


def test_a_figure_is_judged_by_its_goal() -> None:
    table = serving_table.as_markdown(_saved(F=_flood(1.5)))
    assert "| ≤ 2 | 1.50 | met | p99 15.0 : 10.0 ms |" in table
    assert "Some CPU, 2 cores; python 3.11. Texts: some texts. Medians of 5 rounds" in table
    assert "| ≤ 2 | 2.50 | **missed** |" in serving_table.as_markdown(_saved(F=_flood(2.5)))


def test_what_was_not_measured_says_why() -> None:
    lines = serving_table.lines(_saved(**{"7": {"missing": "wrk is not installed"}})["rows"])
    assert [(line["measured"], line["met"]) for line in lines] == [("", None)]
    assert lines[0]["figures"] == "not measured: wrk is not installed"


def test_a_row_of_an_earlier_version_is_not_shown_as_measured() -> None:
    lines = serving_table.lines(_saved(F={"value": 1.5})["rows"])
    assert [(line["measured"], line["met"]) for line in lines] == [("", None)]


def test_the_readme_gets_the_table_and_its_figures_once() -> None:
    saved, figures = _saved(F=_flood(1.5)), {"deploy/figures/a.png": "Something over something"}
    once = serving_table.insert_into(_DOCUMENT, saved, figures)
    assert "old" not in once
    assert "![Something over something](deploy/figures/a.png)" in once
    assert once.startswith("before\n")
    assert once.endswith("<!-- /serving -->\nafter\n")
    assert serving_table.insert_into(once, saved, figures) == once
