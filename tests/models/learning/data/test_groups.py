"""Rows that belong together: by a column of the file, and by templates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.datasets.examples import Example, TextPair
from models.datasets.reading import read
from models.learning.data import groups
from models.learning.evaluation import scores
from models.learning.tasks.task import Tally


def _examples(*rows: tuple[str, str, str]) -> list[Example]:
    return [Example(text, label, number, group) for number, (text, label, group) in enumerate(rows, start=1)]


def _others(label: str, count: int = 5) -> list[tuple[str, str, str]]:
    return [(f"{label} said {chr(97 + number)}", label, "") for number in range(count)]


def test_rows_of_one_template_are_one_group() -> None:
    found = groups.find(
        _examples(("Order 17 is late!", "late", ""), ("order 4,211 is late", "late", ""), *_others("late"))
    )
    assert found.group_N[0] == found.group_N[1]
    assert len(np.unique(found.group_N)) == 6
    assert found.describe() == {"groups": {"rows": 2, "groups": 6, "by": "similar inputs"}}


def test_a_label_with_few_templates_keeps_its_rows_apart() -> None:
    found = groups.find(_examples(*((f"order {number} is late", "late", "") for number in range(9)), *_others("other")))
    assert len(np.unique(found.group_N)) == 14
    assert found.describe() == {}


def test_equal_inputs_are_together_whatever_their_label() -> None:
    found = groups.find(_examples(("Hello there", "a", ""), ("hello  THERE", "b", ""), ("bye", "a", "")))
    assert found.group_N[0] == found.group_N[1] != found.group_N[2]


def test_pairs_and_numbers_alone_have_templates_too() -> None:
    pairs = [Example(TextPair(f"row {n}", "x"), "a", n) for n in (1, 2)]
    others = [Example(TextPair(letter, letter), "a", 9) for letter in "abcde"]
    assert len(np.unique(groups.find([*pairs, *others]).group_N)) == 6
    assert len(np.unique(groups.find(_examples(*((str(n), "a", "") for n in range(9)))).group_N)) == 9


def test_stated_groups_and_templates_are_joined() -> None:
    rows = [("order 1", "a", "x"), ("order 2", "a", "y"), ("what else", "a", "y"), *_others("a")]
    found = groups.find(_examples(*rows))
    assert len({int(found.group_N[row]) for row in range(3)}) == 1
    assert found.describe()["groups"]["by"] == "the column 'group' and similar inputs"


def test_the_column_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,film\nhello,a,1\nbye,b,1\nagain,a,\n", encoding="utf-8")
    columns = {"text": "text", "label": "label", "group": "film"}
    examples = read(path, format="csv", task="text-classification", columns=columns)
    assert [example.group for example in examples] == ["1", "1", ""]


def test_an_interval_counts_a_group_as_one_row() -> None:
    hits_N = np.repeat([True, True, False, True, False, True, True, True, False, True], 20)
    tally = Tally(
        np.stack([hits_N, np.ones(200)], axis=1).astype(float), lambda sums: sums[..., 0] / sums[..., 1], hits_N
    )
    alone, grouped = scores.score(tally), scores.score(tally.by_group(np.repeat(np.arange(10), 20)))
    assert alone.value == grouped.value
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def _pictures(films: int, frames: int, group: str = "") -> list[Example]:
    """Frames of films, two labels in turn."""
    rows = [(film, number) for film in range(films) for number in range(frames)]
    return _examples(*((f"{chr(97 + film)} {chr(97 + number)}", "ab"[film % 2], group) for film, number in rows))


def _strata(examples: list[Example]) -> groups.Ints:
    return np.unique([str(example.target) for example in examples], return_inverse=True)[1]


def test_similar_rows_are_joined_and_the_report_says_what_that_means() -> None:
    examples = [*_pictures(8, 4), *_examples(*_others("a"), *_others("b"))]
    similar_N = np.concatenate([np.repeat(np.arange(8), 4), 8 + np.arange(10)])
    joined = groups.find(examples).join(similar_N, _strata(examples))
    assert len(np.unique(joined.group_N)) == 18
    said = joined.describe()["groups"]
    assert (said["rows"], said["by"]) == (32, "similar inputs and similar frozen features")
    assert said["similar"]["groups"] == 8
    assert said["similar"]["meaning"].startswith("32 rows are alike in 8 groups")
    assert not joined.warning


def test_a_group_of_most_of_a_label_is_not_held_out_together() -> None:
    examples = [*_examples(*((f"{chr(97 + n)} film", "a", "") for n in range(12))), *_pictures(6, 2), *_pictures(4, 1)]
    similar_N = np.concatenate([np.zeros(12), 1 + np.repeat(np.arange(6), 2), 7 + np.arange(4)]).astype(np.int64)
    joined = groups.find(examples).join(similar_N, _strata(examples))
    assert len(np.unique(joined.group_N[:12])) == 12
    assert joined.similar == groups.Similar(groups=6, rows=12, apart=12)
    assert joined.warning.startswith("12 rows are like many others of their label")


def test_fewer_films_than_folds_are_not_held_out_together() -> None:
    examples = _pictures(4, 6)
    joined = groups.find(examples).join(np.repeat(np.arange(4), 6), _strata(examples))
    assert joined.describe() == {}
    assert joined.similar == groups.Similar(groups=0, rows=0, apart=24)


def test_a_label_of_few_groups_keeps_its_rows_apart() -> None:
    """Of icons or forms all pictures of a label are alike: held out whole, nothing would have learned the label."""
    examples = [*_examples(*((f"{chr(97 + n)} icon", "a", "") for n in range(12))), *_pictures(12, 2)]
    similar_N = np.concatenate([np.repeat(np.arange(3), 4), 3 + np.repeat(np.arange(12), 2)])
    strata_N = np.repeat([0, 1], [12, 24])
    joined = groups.find(examples).join(similar_N, strata_N)
    assert len(np.unique(joined.group_N[:12])) == 12
    assert joined.similar == groups.Similar(groups=12, rows=24, apart=12)


def test_a_column_of_groups_goes_before_what_is_similar() -> None:
    examples = _pictures(8, 4, group="x")
    found = groups.find(examples)
    assert found.join(np.repeat(np.arange(8), 4), _strata(examples)) is found


def test_nothing_is_similar_where_every_row_stands_alone() -> None:
    examples = _pictures(8, 4)
    joined = groups.find(examples).join(np.arange(32), _strata(examples))
    assert joined.describe() == {}
    assert not joined.message
    assert not joined.warning
