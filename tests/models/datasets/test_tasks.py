from __future__ import annotations

import json

import pytest

from models.datasets.errors import (
    NoLabels,
    OneClass,
    OneValue,
    TooFewRows,
    TooManyClasses,
    TooManyRows,
    TwoReadings,
    UnknownColumns,
    UnknownTask,
)
from models.datasets.examples import Span, TextPair
from models.datasets.validation import Limits


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def codes(found) -> list[str]:
    return [warning["code"] for warning in found.warnings]


# Sets as a whole


def test_one_class(refusal):
    error = refusal(table("text,label", "a,x", "b,x"))
    assert isinstance(error, OneClass)
    assert "'x'" in str(error)


def test_classes_with_one_row_are_left_out_and_named(profile):
    found = profile(table("text,label", "a,x", "b,x", "c,refund", "d,y", "e,y", "f,z", "g,x"))
    (warning,) = [each for each in found.warnings if each["code"] == "rare_labels"]
    assert warning["labels"] == {"refund": 1, "z": 1}
    assert "rare_labels" in warning["message"]
    assert "'refund', 'z'" in warning["message"]


@pytest.mark.parametrize(
    "rows", [["a,x", "b,x", "c,y", "d,z"], [f"t{n},l{n}" for n in range(30)] + ["a,x", "b,x", "c,y", "d,y"]]
)
def test_nothing_but_classes_with_one_row(refusal, rows):
    error = refusal(table("text,label", *rows))
    assert isinstance(error, TooFewRows)
    assert error.code == "too_few_rows"
    assert "at least 2" in str(error)


def test_one_label_that_is_left_needs_rows_without_it(profile, refusal):
    rows = [{"text": f"t{n}", "labels": ["a"]} for n in range(6)]
    rare = {"text": "r", "labels": ["a", "b"]}
    none = [{"text": f"n{n}", "labels": []} for n in range(6)]

    assert isinstance(refusal(jsonl(*rows, rare)), TooFewRows)
    assert profile(jsonl(*rows, rare, *none)).labels == {"a": 7, "b": 1}
    assert profile(jsonl(*rows, {"text": "r", "labels": ["b"]}, *none)).labels == {"a": 6, "b": 1}


def test_more_classes_than_the_limit(refusal):
    rows = [f"t{n},label{n // 2}" for n in range(10)]
    assert isinstance(refusal(table("text,label", *rows), limits=Limits(max_classes=4)), TooManyClasses)


def test_as_many_classes_as_the_limit(profile):
    rows = [f"t{n},label{n // 2}" for n in range(10)]
    assert len(profile(table("text,label", *rows), limits=Limits(max_classes=5)).labels) == 5


def test_more_rows_than_the_limit(refusal, profile):
    content = table("text,label", "a,x", "b,y", "c,x", "d,y")
    assert isinstance(refusal(content, limits=Limits(max_rows=3)), TooManyRows)
    assert profile(content, limits=Limits(max_rows=4)).rows == 4


# Columns


@pytest.mark.parametrize(
    ("header", "mend"),
    [
        ("text,category", 'columns={"label": "category"}'),
        ("text,lable", 'columns={"label": "lable"}'),
        ("txet,label", 'columns={"text": "txet"}'),
        ("review,sentiment", 'columns={"text": "review", "label": "sentiment"}'),
        ("sentence1,score", 'columns={"text": "sentence1", "value": "score"}'),
        ("foo,bar", "Name the columns text and label"),
    ],
)
def test_a_missing_column_is_answered_with_the_nearest_name(refusal, header, mend):
    error = refusal(table(header, "a,x", "b,y"))
    assert isinstance(error, UnknownColumns)
    assert mend in str(error)
    assert f"'{header.split(',')[0]}'" in str(error)


def test_the_mend_of_a_missing_column_works(profile):
    content = table("text,category", "a,x", "b,y", "c,x", "d,y")
    found = profile(content, columns={"label": "category"})
    assert found.columns == {"text": "text", "label": "category"}
    assert found.task == "text-classification"


def test_columns_that_are_not_in_the_file(refusal):
    error = refusal(table("text,category", "a,x", "b,y"), columns={"label": "categroy"})
    assert isinstance(error, UnknownColumns)
    assert 'columns={"label": "category"}' in str(error)


def test_columns_that_no_task_has(refusal):
    error = refusal(table("text,category", "a,x", "b,y"), columns={"lable": "category"})
    assert isinstance(error, UnknownColumns)
    assert "'label'" in str(error)


def test_a_file_without_a_header_is_told_so(refusal):
    error = refusal(table("I lost my card,lost", "where is it,where"))
    assert isinstance(error, UnknownColumns)
    assert "first line" in str(error)


def test_an_unknown_task(refusal):
    error = refusal(table("text,label", "a,x"), task="text-clasification")
    assert isinstance(error, UnknownTask)
    assert "'text-classification'" in str(error)
    assert error.param == "task"


def test_a_stated_task_decides_which_columns_are_needed(profile, refusal):
    content = table("text,label,value", "a,x,1", "b,y,2", "c,x,3", "d,y,4")
    assert isinstance(refusal(content), TwoReadings)
    assert profile(content, task="text-classification").columns == {"text": "text", "label": "label"}
    assert profile(content, task="text-regression").columns == {"text": "text", "value": "value"}
    error = refusal(content, task="multi-label-classification")
    assert 'columns={"labels": "label"}' in str(error)


# Tasks


@pytest.mark.parametrize(
    "cells",
    [
        ['["a", "b"]', '["b"]', "[]", '[" a "]'],
        ["a|b", "b", "[]", "a"],
        [" a ; b ", "b", "[]", " a "],
    ],
)
def test_several_labels_in_csv(examples, cells):
    rows = [f'text {n},"{cell.replace(chr(34), chr(34) * 2)}"' for n, cell in enumerate(cells)]
    found = examples(table("text,labels", *rows))
    assert [row.target for row in found] == [("a", "b"), ("b",), (), ("a",)]


def test_several_labels_in_jsonl(profile, examples):
    content = jsonl(
        *({"text": f"t{n}", "labels": labels} for n, labels in enumerate([["a", 1], [1], [], ["a"], ["a"]]))
    )
    assert profile(content).task == "multi-label-classification"
    assert profile(content).labels == {"a": 3, "1": 2}
    assert examples(content)[0].target == ("a", "1")


def test_several_labels_that_cannot_be_used(refusal):
    values = [["a"], None, "", ["a", ""], ["x" * 300], [["a"]], 5, "['a'", ["b"], "a||b"]
    error = refusal(jsonl(*({"text": "t", "labels": value} for value in values)))
    assert [detail["row"] for detail in error.details] == [2, 3, 4, 5, 6, 7, 8, 10]


def test_no_labels_anywhere(refusal):
    assert isinstance(refusal(jsonl({"text": "a", "labels": []}, {"text": "b", "labels": []})), NoLabels)


def test_the_same_labels_everywhere(refusal):
    assert isinstance(refusal(jsonl(*[{"text": "a", "labels": ["x", "y"]}] * 3)), OneClass)


def test_regression_of_texts_and_pairs(examples):
    content = table("text,value", "a,1", "b,-2.5", "c,3e-1", "d,4")
    assert [row.target for row in examples(content)] == [1.0, -2.5, 0.3, 4.0]
    rows = [{"text": "a", "text_pair": "b", "value": 1}, {"text": "c", "text_pair": "d", "value": 2.5}]
    pairs = examples(jsonl(*rows, *rows))[:2]
    assert [(row.input, row.target) for row in pairs] == [(TextPair("a", "b"), 1.0), (TextPair("c", "d"), 2.5)]


def test_values_that_are_none(refusal):
    error = refusal(table("text,value", "a,1", 'b,"3,5"', "c,", "d,nan", "e,inf", "f,many"))
    assert [(detail["row"], detail["column"]) for detail in error.details] == [(n, "value") for n in range(2, 7)]
    assert isinstance(refusal(table("text,value", "a,1", "b,1.0")), OneValue)


def test_spans_and_tags_become_the_same_examples(examples):
    spans = jsonl(
        {"text": "fly to New York now", "spans": [{"start": 7, "end": 15, "label": "city"}]},
        {"text": "from Rome", "spans": [[5, 9, "city"]]},
        {"text": "hello", "spans": []},
        {"text": "bye", "spans": []},
    )
    tags = jsonl(
        {"tokens": ["fly", "to", "New", "York", "now"], "tags": ["O", "O", "B-city", "I-city", "O"]},
        {"tokens": ["from", "Rome"], "tags": ["O", "I-city"]},
        {"tokens": ["hello"], "tags": ["O"]},
        {"tokens": ["bye"], "tags": ["O"]},
    )
    assert examples(spans) == examples(tags)
    assert examples(spans)[0].target == (Span(7, 15, "city"),)


def test_tag_schemes(examples):
    tokens = ["a", "bb", "c", "d"]
    rows = [["B-x", "B-x", "I-x", "O"], ["B-x", "I-y", "O", "S-y"], ["B-x", "E-x", "I-x", "O"]]
    found = examples(jsonl(*({"tokens": tokens, "tags": tags} for tags in rows * 2)))
    assert [row.target for row in found][:3] == [
        (Span(0, 1, "x"), Span(2, 6, "x")),
        (Span(0, 1, "x"), Span(2, 4, "y"), Span(7, 8, "y")),
        (Span(0, 4, "x"), Span(5, 6, "x")),
    ]


def test_spans_and_tags_that_cannot_be_used(refusal):
    bad = [[[0, 9, "x"]], [[2, 1, "x"]], [[0, 1]], [[0, 2, "x"], [1, 3, "y"]], None, [["0", 1, "x"]], [[0, 1, ""]]]
    error = refusal(
        jsonl({"text": "fine", "spans": [[0, 1, "x"]]}, *({"text": "text", "spans": spans} for spans in bad))
    )
    assert [detail["row"] for detail in error.details] == [2, 3, 4, 5, 6, 7, 8]
    bad_tags = [["O"], ["city", "O"], [1, 2], ["B-", "O"], None]
    good = {"tokens": ["a", "b"], "tags": ["B-x", "O"]}
    error = refusal(jsonl(good, *({"tokens": ["a", "b"], "tags": tags} for tags in bad_tags)))
    assert [detail["row"] for detail in error.details] == [2, 3, 4, 5, 6]


# Warnings


def test_a_clean_set_has_no_warnings(profile):
    assert profile(table("text,label", *(f"text {n},{'xy'[n % 2]}" for n in range(20)))).warnings == []


def test_labels_that_differ_in_case_or_space(profile):
    rows = ["a,Card lost", "b,card_lost", "c,Card lost", "d,card_lost", "e,other", "f,other"]
    found = profile(table("text,label", *rows))
    assert found.warnings[0]["code"] == "similar_labels"
    assert found.warnings[0]["labels"] == ["Card lost", "card_lost"]


def test_repeated_and_conflicting_texts(profile):
    rows = [f"text {n},{'xy'[n % 2]}" for n in range(20)]
    found = profile(table("text,label", *rows, "TEXT  0,x", " text 2 ,x", "Text 4,y"))
    warnings = {warning["code"]: warning for warning in found.warnings}
    assert set(warnings) == {"near_duplicates", "conflicting_labels"}
    assert warnings["near_duplicates"]["count"] == 2
    assert warnings["near_duplicates"]["rows"] == [[1, 21], [3, 22]]
    assert warnings["conflicting_labels"]["rows"] == [[5, 23]]


def test_few_rows_and_imbalance(profile):
    found = profile(table("text,label", *(f"a{n},big" for n in range(80)), "b,small", "c,small"))
    assert codes(found) == ["few_rows", "imbalance"]
    assert found.warnings[0]["labels"] == {"small": 2}
    assert found.warnings[1]["ratio"] == 40.0


def test_a_profile_is_json(profile):
    from dataclasses import asdict

    found = profile(table("text,label", *(f"a{n},big" for n in range(80)), "b,small", "B,small", "a1,small"))
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
