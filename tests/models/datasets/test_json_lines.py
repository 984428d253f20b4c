from __future__ import annotations

import codecs
import json

import pytest

from models.datasets.errors import NoRows, OpenAnswers, UnknownColumns, WrongFormat


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def chat(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


ROWS = [{"text": f"text {n}", "label": "ab"[n % 2], "id": n} for n in range(6)]


@pytest.mark.parametrize(
    "content",
    [
        jsonl(*ROWS),
        jsonl(*ROWS).replace("\n", "\r\n"),
        jsonl(*ROWS).replace("\n", "\n\n  \n"),
        codecs.BOM_UTF8 + jsonl(*ROWS).encode(),
        jsonl(*ROWS).encode("utf-16"),
        jsonl(*ROWS).rstrip(),
    ],
)
def test_lines_of_objects(examples, content):
    rows = examples(content, filename="tickets.jsonl")
    assert [(row.input, row.target, row.row) for row in rows] == [(f"text {n}", "ab"[n % 2], n + 1) for n in range(6)]


@pytest.mark.parametrize(
    ("values", "labels"),
    [([0, 1], ["0", "1"]), ([True, False], ["true", "false"]), ([1.0, 2.5], ["1", "2.5"]), ([" a ", "b"], ["a", "b"])],
)
def test_labels_that_are_no_strings_become_some(profile, values, labels):
    rows = [{"text": f"t{n}", "label": values[n % 2]} for n in range(6)]
    assert list(profile(jsonl(*rows)).labels) == labels


def test_bad_lines_and_wrong_types_are_all_reported(refusal):
    content = (
        jsonl({"text": "a", "label": "x"})
        + '{"text": "b", "label": \n'
        + jsonl(
            {"text": 5, "label": "x"}, {"text": "c"}, {"text": "d", "label": None}, {"text": "e", "label": ["x", "y"]}
        )
        + '[1]\n{"text": "\\ud800", "label": "x"}\n{"text": "f", "label": NaN}\n'
        + jsonl({"text": "  ", "label": {"a": 1}}, {"text": "g\0", "label": "y"})
    )
    error = refusal(content)
    assert [(detail["row"], detail["column"]) for detail in error.details] == [
        (2, None), (3, "text"), (4, "label"), (5, "label"), (6, "label"), (7, None), (8, None), (9, None),
        (10, "text"), (10, "label"), (11, "text"),
    ]  # fmt: skip
    assert error.details[0]["line"] == 2
    assert "number where a text is expected" in error.details[1]["reason"]


def test_a_file_of_broken_lines_is_about_its_lines_not_its_columns(refusal):
    error = refusal('{"text": "a",\n "label": "x"}\n', filename="pretty.jsonl")
    assert [detail["line"] for detail in error.details] == [1, 2]


def test_one_json_array_is_told_how_to_become_lines(refusal):
    error = refusal(json.dumps(ROWS), filename="tickets.json")
    assert isinstance(error, WrongFormat)
    assert "jq" in str(error)


def test_deep_nesting_is_a_bad_line(refusal):
    error = refusal('{"text": "a", "label": "x"}\n{"text": ' + "[" * 100_000 + "\n")
    assert error.details[0]["row"] == 2


def test_a_missing_key(refusal):
    error = refusal(jsonl({"text": "a", "intent": "x"}, {"text": "b", "intent": "y"}))
    assert isinstance(error, UnknownColumns)
    assert 'columns={"label": "intent"}' in str(error)


def test_objects_without_keys(refusal):
    error = refusal("{}\n{}\n")
    assert isinstance(error, UnknownColumns)


def test_a_line_without_end_does_not_fill_the_memory(refusal, monkeypatch):
    monkeypatch.setattr("models.datasets.formats.encoding.MAX_LINE_CHARS", 10_000)
    error = refusal(jsonl({"text": "a", "label": "x"}) + '{"text": "' + "b" * 20_000 + '", "label": "y"}\n')
    assert "longer than" in error.details[0]["reason"]


def test_chat_takes_the_last_question_and_its_answer(examples, profile):
    rows = [
        chat(("system", "You sort tickets."), ("user", "hi"), ("assistant", "greeting"), ("user", f"q{n}"),
             ("assistant", " card " if n % 2 else "lost"))
        for n in range(6)
    ]  # fmt: skip
    found = profile(jsonl(*rows))
    assert (found.format, found.task) == ("chat", "text-classification")
    assert found.labels == {"lost": 3, "card": 3}
    assert [row.input for row in examples(jsonl(*rows))] == [f"q{n}" for n in range(6)]


def test_chat_content_in_parts(examples):
    parts = [{"type": "text", "text": "where "}, {"type": "text", "text": "is it"}]
    rows = examples(jsonl(*(chat(("user", parts), ("assistant", label)) for label in "abab")))
    assert {row.input for row in rows} == {"where is it"}


def test_chat_rows_that_cannot_be_used(refusal):
    picture = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    good = chat(("user", "a"), ("assistant", "x"))
    rows = [
        good,
        {"messages": []},
        {"messages": ["hi"]},
        chat(("user", "a")),
        chat(("user", picture), ("assistant", "x")),
        chat(("user", "a"), ("assistant", None)),
        {"text": "a"},
        chat(("assistant", "x"), ("user", "a")),
    ]
    error = refusal(jsonl(*rows))
    assert [detail["row"] for detail in error.details] == [2, 3, 4, 5, 6, 7, 8]
    assert {detail["column"] for detail in error.details} == {"messages"}


def test_free_text_answers_are_no_labels(refusal):
    rows = [chat(("user", f"q{n}"), ("assistant", f"Well, the answer to number {n} is long.")) for n in range(40)]
    assert isinstance(refusal(jsonl(*rows), task="text-classification"), OpenAnswers)


@pytest.mark.parametrize("content", ["{", "{}"])
def test_hardly_anything(refusal, content):
    refusal(content)


def test_only_a_mark(refusal):
    assert isinstance(refusal(codecs.BOM_UTF16_LE), NoRows)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"text": "b: c", "label": "x", "label": "y"}', "label"),
        ('{"text": "b", "label": "x", "id": {"a": 1, "a": 2}}', "a"),
        ('{"text": "b", "label": "x", "id": [{"d:e": 123456789012345678901234567890, "d:e": 1.5}]}', "d:e"),
    ],
)
def test_an_object_with_a_key_twice_is_a_bad_row(refusal, line, key):
    """Before, the last value won without a word."""
    error = refusal(jsonl(*ROWS) + line + "\n")
    (found,) = error.details
    assert found["row"] == len(ROWS) + 1
    assert f"'{key}' twice" in found["reason"]


def test_colons_and_the_same_keys_in_other_objects_are_no_repetitions(examples):
    rows = [
        {"text": "a: b: \\u003a", "label": "x:y", "id": [{"a:": {"a": 1}}, {"a:": {"a": 1}}]},
        {"text": "c", "label": "z", "id": {}},
    ]
    assert len(examples(jsonl(*rows, *rows, *rows), filename="t.jsonl")) == 6


THOUSAND = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(1_000)]


@pytest.mark.parametrize("key", ["text_pair", "group", "value", " Group"])
def test_a_column_that_begins_behind_the_first_thousand_rows_is_refused_with_its_row(refusal, key):
    error = refusal(jsonl(*THOUSAND, {"text": "x", "label": "a"}, *[{"text": "y", "label": "a", key: "1"}] * 2))

    assert [(detail["row"], detail["line"], detail["column"]) for detail in error.details] == [
        (1_002, 1_002, key),
        (1_003, 1_003, key),
    ]
    assert "in none of the first 1,000 rows" in str(error)
    assert "Write it in one of those, too" in str(error)


def test_a_column_of_the_thousandth_row_is_read(examples):
    rows = examples(jsonl(*THOUSAND[1:], {"text": "x", "label": "a", "group": "g"}, {**THOUSAND[0], "group": " h"}))

    assert [row.group for row in rows[-3:]] == ["", "g", "h"]


@pytest.mark.parametrize("late", [{"note": "seen"}, {"text_pair": None}])
def test_late_keys_without_meaning_are_passed_over(profile, late):
    assert profile(jsonl(*THOUSAND, {"text": "x", "label": "a", **late})).columns == {"text": "text", "label": "label"}


def test_of_rows_without_labels_late_inputs_are_refused_and_late_answers_are_not_read(profile, refusal):
    texts = [{"text": row["text"]} for row in THOUSAND]

    assert profile(jsonl(*texts, THOUSAND[0]), role="unlabeled").rows == 1_001
    assert refusal(jsonl(*texts, {"text": "x", "text_pair": "y"}), role="unlabeled").details[0]["row"] == 1_001
