"""What is read and what is not: columns, labels, roles. Nothing that is known goes unused without a word."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.datasets import rare_labels
from models.datasets.errors import (
    JoinedLabels,
    LabelsAsVectors,
    NumbersAsLabels,
    OneClass,
    TooSmall,
    TwoReadings,
    UnknownColumns,
)
from models.datasets.examples import Box, Example, Span, TextPair
from models.datasets.mojibake import mend
from models.datasets.rare_labels import RareLabels
from models.datasets.word_counts import count_longer


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def each(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1] for at in range(len(content)))


def warned(found, code: str) -> list[dict]:
    return [warning for warning in found.warnings if warning["code"] == code]


def parquet(columns: dict[str, list], features: dict | None = None) -> bytes:
    made = pa.table(columns)
    if features is not None:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(made, buffer)
    return buffer.getvalue()


# Columns


def test_two_texts_and_a_label_are_a_pair(profile, examples):
    content = table("text,text_pair,label", "a b,a b,same", "a b,c d,other", "e f,e f,same", "e f,a b,other")
    assert profile(content).task == "text-pair-classification"
    assert examples(content)[1].input == TextPair("a b", "c d")
    assert warned(profile(content), "conflicting_labels") == []
    named = content.replace("text,text_pair,label", "premise,hypothesis,verdict")
    found = profile(named, columns={"text": "premise", "text_pair": "hypothesis", "label": "verdict"})
    assert found.task == "text-pair-classification"


@pytest.mark.parametrize("header", ["text,text_pair,labels", "text,weight,label", "text,sentence2,label"])
def test_a_known_column_that_is_not_used_is_named(profile, header):
    found = profile(table(header, *(f"t{n},p{n},{'xy'[n % 2]}" for n in range(6))))
    (warning,) = warned(found, "unused_column")
    assert warning["column"] == header.split(",")[1]


@pytest.mark.parametrize(
    "header", ["text,label,value", "text,value,text_pair,label", "text,label,labels", "text,tags,tokens,label"]
)
def test_two_readings_are_refused_with_both_named(refusal, header):
    error = refusal(table(header, *(",".join(["1"] * len(header.split(","))) for _ in range(6))))
    assert isinstance(error, TwoReadings)
    assert str(error).count('task="') == 2


@pytest.mark.parametrize(
    "columns",
    [
        {"text": "a", "label": "b", "value": "c"},
        {"text": "a", "label": "b", "spans": "c"},
        {"text": "a", "labels": "b", "label": "c"},
        {"text": "a", "value": "b", "tags": "c"},
    ],
)
def test_names_of_different_tasks_are_refused(refusal, columns):
    error = refusal(table("a,b,c", "x,1,2", "y,2,1", "z,1,2", "w,2,1"), columns=columns)
    assert isinstance(error, UnknownColumns)
    assert "different tasks" in str(error)


@pytest.mark.parametrize("columns", [{"label": ""}, {"text": " ", "label": "c"}, {"text": "c", "label": "c"}])
def test_columns_that_cannot_be_meant(refusal, columns):
    assert isinstance(refusal(table("text,,c", "x,1,2", "y,2,1", "z,1,2", "w,2,1"), columns=columns), UnknownColumns)


def test_one_column_per_label(tmp_path):
    from tests.models.datasets.test_foreign_forms import follow

    rows = [{"comment": f"this is {n}", "rude": n % 2, "dull": int(n > 2)} for n in range(6)]
    content = table("comment,rude,dull", *(",".join(map(str, row.values())) for row in rows))
    expected = [tuple(name for name in ("rude", "dull") if row[name]) for row in rows]
    assert [row["target"] for row in follow(tmp_path, "flags.csv", content)] == expected
    (tmp_path / "labels.jsonl").unlink()
    assert [row["target"] for row in follow(tmp_path, "flags.jsonl", jsonl(*rows))] == expected


# Labels


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a, b", "b", "a"], [("a", "b"), ("b",), ("a",)]),
        (["a#b", "b", "C#"], [("a", "b"), ("b",), ("C#",)]),
        (["['a', 'b']", "['b']", "[]"], [("a", "b"), ("b",), ()]),
        (['{"choices": ["a", "b"]}', '{"choices": ["b"]}', "a"], [("a", "b"), ("b",), ("a",)]),
    ],
)
def test_labels_in_one_cell(examples, cells, expected):
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    content = table("text,labels", *(f"t{n},{cell}" for n, cell in enumerate(quoted * 2)))
    assert [row.target for row in examples(content)] == expected * 2


def test_the_sign_that_parts_labels_is_named(profile):
    found = profile(table("text,labels", *(f't{n},"Home, Garden"' for n in range(3)), "u,Home", "v,Garden"))
    assert "','" in warned(found, "reading")[0]["message"]


def test_a_sign_that_a_files_other_rows_do_not_use_is_named(profile):
    usual = [f"t{n},Sales|{'Legal' if n % 2 else 'Board'}" for n in range(4)]
    found = profile(table("text,labels", *usual, "u,R&D; Ops", "v,Legal"))
    [told] = warned(found, "reading")
    assert told["message"].startswith("Labels are parted at ';' in 1 row, first in 5. If the sign is part of a name")
    assert not warned(profile(table("text,labels", *usual)), "reading")
    assert not warned(profile(table("text,labels", *(row.replace("|", "; ") for row in usual))), "reading")


def test_the_order_of_what_a_row_has_means_nothing(profile):
    rows = [{"text": f"t{n}", "labels": ["a", "b"][: 1 + n % 2]} for n in range(6)]
    same = {"text": "twice", "labels": ["a", "b"]}, {"text": "Twice", "labels": ["b", "a"]}
    found = profile(jsonl(*rows, *same))
    assert not warned(found, "conflicting_labels")
    assert warned(found, "near_duplicates")[0]["rows"] == [[7, 8]]
    other = {"text": "twice", "labels": ["a"]}
    assert warned(profile(jsonl(*rows, *same, other)), "conflicting_labels")[0]["rows"] == [[7, 8, 9]]


@pytest.mark.parametrize("vectors", [[[1, 0, 1], [0, 1, 0], [0, 0, 1]], [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]])
def test_vectors_of_labels_are_refused(refusal, vectors):
    error = refusal(jsonl(*({"text": f"t{n}", "labels": vectors[n % len(vectors)]} for n in range(6))))
    assert "0/1 vector" in str(error)
    assert "names" in error.details[0]["mend"]


def test_vectors_of_two_are_refused(refusal):
    rows = ({"text": f"t{n}", "labels": [n % 2, 1 - n % 2]} for n in range(6))
    assert isinstance(refusal(jsonl(*rows)), LabelsAsVectors)


def test_lists_of_numbers_that_are_names_are_read(examples):
    rows = [{"text": f"t{n}", "labels": [n % 3, 7]} if n else {"text": "t", "labels": [0, 1]} for n in range(7)]
    assert examples(jsonl(*rows))[1].target == ("1", "7")


@pytest.mark.parametrize("label", [["refund"], {"choices": ["refund"]}])
def test_lists_of_one_label_are_that_label(examples, label):
    rows = [{"text": f"t{n}", "label": label if n % 2 else ["other"]} for n in range(6)]
    assert [row.target for row in examples(jsonl(*rows))][:2] == ["other", "refund"]


@pytest.mark.parametrize("own", ["labels", "label"])
def test_spans_among_the_labels_are_told_where_they_go(refusal, examples, own):
    content = jsonl(*({"text": f"fly to {city}", own: [[7, 11, "CITY"]]} for city in ("Rome", "Oslo", "Lima", "Bonn")))
    assert f'columns={{"spans": "{own}"}}' in str(refusal(content))
    assert examples(content, columns={"spans": own})[0].target == (Span(7, 11, "CITY"),)


def test_spans_by_other_names(examples):
    spans = [
        {"start_offset": 7, "end_offset": 11, "label": "city"},
        {"start": 7, "end": 11, "labels": ["city"]},
        {"start": 7, "end": 11, "entity": "city", "value": "Rome"},
    ]
    content = jsonl(*({"text": "fly to Rome", "spans": [span]} for span in [*spans, *spans]))
    assert {row.target for row in examples(content)} == {(Span(7, 11, "city"),)}


def test_names_of_numbers_in_parquet(profile, examples):
    names = ["late", "lost", "broken"]
    content = parquet(
        {"text": [f"t{n}" for n in range(9)], "label": [n % 3 for n in range(9)]},
        {"label": {"names": names, "_type": "ClassLabel"}},
    )
    assert list(profile(content).labels) == names
    tags = parquet(
        {"tokens": [["to", "Rome"]] * 4, "ner_tags": [[0, 1]] * 4},
        {"ner_tags": {"feature": {"names": ["O", "B-city"], "_type": "ClassLabel"}, "_type": "Sequence"}},
    )
    assert examples(tags, columns={"tags": "ner_tags"})[0].target == (Span(3, 7, "city"),)
    unnamed = parquet(
        {"text": ["a", "b", "c", "d"], "label": [0, 1, -1, 1]}, {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    )
    with pytest.raises(Exception, match="has no label"):
        profile(unnamed)


def test_a_value_is_spelled_alike_in_every_format(profile):
    texts = [f"t{n}" for n in range(6)]
    for values, cells in (([1.0, 2.5], ["1.0", "2.5"]), ([True, False], ["True", "FALSE"]), ([3, 4], ["3", "4.0"])):
        column = [values[n % 2] for n in range(6)]
        spelled = [
            list(profile(content).labels)
            for content in (
                table("text,label", *(f"t{n},{cells[n % 2]}" for n in range(6))),
                jsonl(*({"text": text, "label": value} for text, value in zip(texts, column, strict=True))),
                parquet({"text": texts, "label": column}),
            )
        ]
        assert spelled[0] == spelled[1] == spelled[2]


def test_numbers_of_single_precision_are_spelled_as_they_were_written(profile, examples):
    texts = [f"t{n}" for n in range(8)]
    for kind in (pa.float32(), pa.float16()):
        short = pa.array([0.1, 2.5, 3.0, None] * 2, kind).fill_null(0.1)
        assert list(profile(parquet({"text": texts, "label": short})).labels) == ["0.1", "2.5", "3"]
        lists = pa.array([[0.1, 2.5], [3.0]] * 4, pa.list_(kind))
        assert list(profile(parquet({"text": texts, "labels": lists})).labels) == ["0.1", "2.5", "3"]
        assert examples(parquet({"text": texts, "value": short}))[0].target == 0.1


def test_labels_of_which_digits_were_lost_are_refused(profile, refusal):
    """JSON's whole numbers beyond 2^64 are read as the nearest in double precision: two labels would be one."""
    ids = "12345678901234567890120", "12345678901234567890121"
    bare = "".join(f'{{"text": "t{n}", "label": {ids[n % 2]}}}\n' for n in range(6))
    error = refusal(bare)
    assert len(error.details) == 6
    assert (error.details[0]["row"], error.details[0]["column"]) == (1, "label")
    assert "not all digits were kept" in error.details[0]["reason"]
    assert "Write it as a string" in error.details[0]["mend"]
    texts = [f"t{n}" for n in range(6)]
    assert refusal(parquet({"text": texts, "label": [2.0**53, 2.0**53 + 2] * 3})).details
    written = jsonl(*({"text": text, "label": ids[n % 2]} for n, text in enumerate(texts)))
    assert profile(written).labels == dict.fromkeys(ids, 3)
    whole = jsonl(*({"text": text, "label": 2**63 + n % 2} for n, text in enumerate(texts)))
    assert profile(whole).labels == {str(2**63): 3, str(2**63 + 1): 3}  # all their digits are there
    assert profile(parquet({"text": texts, "label": [2.0**53 - 1, 1.0] * 3})).labels == {str(2**53 - 1): 3, "1": 3}


def test_a_thousand_written_as_python_does_is_no_number(refusal, profile):
    error = refusal(table("text,value", "a,1", "b,2", "c,3", "d,1_000"))
    assert [(detail["row"], detail["column"]) for detail in error.details] == [(4, "value")]
    assert "is no number: 1_000" in error.details[0]["reason"]
    names = table("text,label", *(f"t{n},{n % 3 + 1}_000" for n in range(60)))
    assert not warned(profile(names), "numeric_labels")


def test_labels_that_look_alike(profile):
    composed, parts = "caf\u00e9", "cafe\u0301"
    rows = [f"t{n},{label}" for n, label in enumerate([composed, parts, "tea", "te\u200ba"] * 2)]
    assert profile(table("text,label", *rows)).labels == {composed: 4, "tea": 4}
    wide = [f"t{n},{label}" for n, label in enumerate(["ABC", "\uff21\uff22\uff23", "x"] * 3)]
    assert warned(profile(table("text,label", *wide)), "similar_labels")[0]["labels"] == ["ABC", "\uff21\uff22\uff23"]


def test_numbers_are_told_where_they_go(refusal, profile):
    content = table("text,score", *(f"t{n},{n * 0.37:.2f}" for n in range(12)))
    error = refusal(content, columns={"label": "score"})
    assert isinstance(error, NumbersAsLabels)
    assert 'columns={"value": "score"}' in str(error)
    assert profile(content, columns={"value": "score"}).task == "text-regression"
    halves = table("text,label", *(f"t{n},{(n % 6) / 2}" for n in range(60)))
    assert warned(profile(halves), "numeric_labels")


@pytest.mark.parametrize("value", ["1e31", "-1e39", "3.5e38"])
def test_values_beyond_what_can_be_learned(refusal, value):
    error = refusal(table("text,value", "a,1", "b,2", "c,3", f"d,{value}"))
    assert [(detail["row"], detail["column"]) for detail in error.details] == [(4, "value")]


@pytest.mark.parametrize("joined", ["late, lost", "late#lost", "late|lost", "lost;late", "['late', 'lost']"])
def test_labels_that_are_several_can_be_read_in_two_ways(profile, refusal, joined):
    content = table("text,topic", *(f't{n},"{label}"' for n, label in enumerate(["late", "lost", joined] * 3)))
    error = refusal(content, columns={"label": "topic"})
    assert isinstance(error, JoinedLabels)
    assert joined in str(error)
    # Both ways that it names, taken.
    assert 'columns={"labels": "topic"}' in str(error)
    assert profile(content, columns={"labels": "topic"}).labels == {"late": 6, "lost": 6}
    assert 'task="text-classification"' in str(error)
    kept = profile(content, columns={"label": "topic"}, task="text-classification")
    assert kept.labels == {"late": 3, "lost": 3, joined: 3}
    assert [warning["labels"] for warning in warned(kept, "joined_labels")] == [[joined]]


def test_answers_that_are_several_labels_are_refused_with_a_way_that_works(profile, refusal):
    def said(role: str, content: str) -> dict:
        return {"role": role, "content": content}

    answers = ["late", "lost", "late; lost"] * 3
    rows = [{"messages": [said("user", f"t{n}"), said("assistant", answer)]} for n, answer in enumerate(answers)]
    assert isinstance(refusal(jsonl(*rows)), JoinedLabels)
    assert profile(jsonl(*rows), columns={"labels": "label"}).labels == {"late": 6, "lost": 6}


@pytest.mark.parametrize("label", ["b,", "R&D", "C#", "late/lost", "late, gone", "[sic]", "24/7"])
def test_labels_with_signs_of_their_own_are_names(profile, label):
    labels = ["late", "lost", label] * 4
    assert label in profile(table("text,label", *(f't{n},"{name}"' for n, name in enumerate(labels)))).labels


def test_labels_of_pairs_and_of_files_to_score_on_are_not_refused(profile):
    labels = ["late", "lost", "late, lost"] * 3
    pairs = profile(table("text,text_pair,label", *(f't{n},u{n},"{name}"' for n, name in enumerate(labels))))
    (warning,) = warned(pairs, "joined_labels")
    assert "columns=" not in warning["message"]  # there is no task of pairs with several labels
    content = table("text,label", *(f't{n},"{name}"' for n, name in enumerate(labels)))
    assert profile(content, role="validation").rows == 9


# Spans


def test_borders_that_are_none_of_words_are_named(profile):
    cut = {"text": "take 252mg of morphine", "spans": [[5, 8, "dose"], [8, 10, "unit"], [14, 22, "drug"]]}
    blank = {"text": "take  it", "spans": [[4, 6, "gap"]]}
    spaced = {"text": "take morphine now", "spans": [[4, 14, "drug"]]}
    clean = {"text": "take 5 mg of O'Neil-drops, 服用吗啡", "spans": [[13, 25, "drug"], [29, 31, "drug"]]}
    [inside, empty, spaces] = warned(profile(jsonl(cut, clean, blank, spaced, cut)), "reading")
    assert (inside["count"], inside["rows"]) == (2, [1, 5])
    assert inside["message"].startswith("Spans begin or end inside a word in 2 rows, first in 1, 5. Words are cut at")
    assert "counts as missed" in inside["message"]
    assert "write a space there" in inside["message"]
    assert (empty["count"], empty["rows"]) == (1, [3])
    assert (spaces["count"], spaces["rows"]) == (1, [4])
    assert spaces["message"].startswith("White space at the ends of spans is not learned, and not answered, in 1 row,")
    tokens = {"tokens": ["take", "O'Neil", "252mg"], "tags": ["O", "B-drug", "B-dose"]}
    assert not warned(profile(jsonl(clean, clean, clean, clean)), "reading")
    assert not warned(profile(jsonl(tokens, tokens, tokens, tokens)), "reading")


# Encodings that were mistaken before the file came here


@pytest.mark.parametrize(
    "text", ["Café crème", "Größe: 5 €", "Müßiggang, “so what”", "naïve – ¿qué?", "Привет", "日本語"]
)
def test_text_that_was_misread_before_is_named_and_the_mend_mends(profile, text):
    content = table("text,label", *(f'"{text} {n}",{"ab"[n % 2]}' for n in range(6)))
    assert warned(profile(content), "mojibake") == []
    # As a program writes it that took the UTF-8 for windows-1252 (for Latin-1 where that has no such character).
    misread = "".join(byte.decode("cp1252", "ignore") or byte.decode("latin-1") for byte in each(content.encode()))
    (warning,) = warned(profile(misread, filename="it's.csv"), "mojibake")
    assert (warning["count"], warning["rows"]) == (6, [1, 2, 3, 4, 5])
    assert "iconv -f utf-8 -t windows-1252 'it'\"'\"'s.csv' > mended-file" in warning["message"]
    assert mend(misread) == content


def test_the_mend_of_misread_text_is_a_command_that_works(profile, tmp_path):
    content = table("text,label", *(f"Où est ma clé n°{n} ?,{'ab'[n % 2]}" for n in range(6)))
    broken = tmp_path / "broken.csv"
    broken.write_text(content.encode().decode("cp1252"))
    (warning,) = warned(profile(broken.read_text(), filename="broken.csv"), "mojibake")
    command = warning["message"].partition("is so: ")[2].removesuffix(".")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "mended-file").read_text() == content


@pytest.mark.parametrize(
    "text",
    [
        "AMANHÃ” disse",
        "voilà\u00a0»",
        "clé\u00a0» et «\u00a0là",
        "„Straß…“",
        "Ärger – Öl",
        "São João, às 8½",
        "ΑΘΗΝΑ…",
        "Ça coûte 5 £",
    ],
)
def test_texts_with_many_signs_are_not_taken_for_misread_ones(profile, text):
    content = table("text,label", *(f'"{text} {n}",{"ab"[n % 2]}' for n in range(6)))
    assert warned(profile(content), "mojibake") == []


def test_characters_that_were_lost_before_are_counted(profile):
    found = profile(table("text,label", *(f"caf\ufffd {n},{'ab'[n % 2]}" for n in range(6))))
    (warning,) = warned(found, "lost_characters")
    assert (warning["count"], warning["rows"]) == (6, [1, 2, 3, 4, 5])
    labels = profile(table("text,label", *(f"t{n},{['cafÃ©', 'thÃ©'][n % 2]}" for n in range(6))))
    assert "'cafÃ©' for 'café'" in warned(labels, "mojibake")[0]["message"]


# Groups


def test_a_gap_among_numbered_groups_is_no_group(examples):
    rows = {"text": ["a", "b", "c", "d"], "label": ["x", "y", "x", "y"], "group": [1.0, float("nan"), None, 1.0]}
    content = parquet({**rows, "group": pa.array(rows["group"], from_pandas=False)})
    assert [row.group for row in examples(content)] == ["1.0", "", "", "1.0"]


# Rare labels and roles


def test_rare_labels_are_left_out_or_joined():
    targets = ["a", "a", "a", "b", "b", "c", "d"]
    rows = [Example(f"t{n}", target, n) for n, target in enumerate(targets)]
    counts = rare_labels.count(rows)
    dropped = RareLabels().decide(counts).apply(rows)
    assert [row.target for row in dropped] == ["a", "a", "a", "b", "b"]
    merged = RareLabels(3, "merge").decide(counts).apply(rows)
    assert [row.target for row in merged] == ["a", "a", "a", "other", "other", "other", "other"]
    several = [Example("t", labels, 0) for labels in [("a", "b"), ("a",), ("c",), (), ("a", "c")]]
    left = RareLabels(2, "drop").decide({"a": 3, "b": 1, "c": 1}).apply(several)
    assert [row.target for row in left] == [("a",), ("a",), (), ("a",)]


def test_a_thing_that_two_joined_labels_mark_is_there_once():
    boxes = (Box("cat", 1, 1, 9, 9), Box("c", 2, 2, 8, 8), Box("d", 2, 2, 8, 8))
    [merged] = RareLabels(2, "merge").decide({"cat": 3, "c": 1, "d": 1}).apply([Example("t", boxes, 1)])
    assert merged.target == (Box("cat", 1, 1, 9, 9), Box("other", 2, 2, 8, 8))


@pytest.mark.parametrize("rows", [["a,x", "b,y", "c,z"], ["a,x", "b,x", "c,x", "d,x"], ["a,x"]])
def test_what_a_set_to_learn_from_needs_is_not_asked_of_one_to_score_on(profile, refusal, rows):
    refusal(table("text,label", *rows))
    found = profile(table("text,label", *rows), role="validation")
    assert (found.role, found.rows, found.warnings) == ("validation", len(rows), [])


def test_what_fails_for_want_of_rows_fails_when_it_is_read(refusal):
    assert isinstance(refusal(table("text,value", "a,1", "b,2", "c,3")), TooSmall)
    assert isinstance(refusal(jsonl(*[{"text": "to Rome", "spans": [[3, 7, "city"]]}] * 3)), TooSmall)
    assert isinstance(refusal(table("text,label", "a,x", "b,x", "c,x", "d,x")), OneClass)


# Conversations


def conversation(*turns: tuple[str, str, int | None]) -> dict:
    messages = [{"role": role, "content": content} for role, content, _ in turns]
    for message, (_, _, weight) in zip(messages, turns, strict=True):
        if weight is not None:
            message["weight"] = weight
    return {"messages": messages}


def test_answers_of_weight_0_are_not_learned(profile, examples, refusal):
    rows = [
        conversation(
            ("user", f"q{n}", None), ("assistant", "ab"[n % 2], 1), ("user", "ok", None), ("assistant", "bye", 0)
        )
        for n in range(6)
    ]
    assert [(row.input, row.target) for row in examples(jsonl(*rows))][:2] == [("q0", "a"), ("q1", "b")]
    named = {warning["what"] for warning in warned(profile(jsonl(*rows)), "unused_content")}
    assert named == {"answers of weight 0", "later turns"}
    only = conversation(("user", "q", None), ("assistant", "a", 0))
    assert "weight 0" in refusal(jsonl(*rows, only)).details[0]["reason"]
    odd = conversation(("user", "q", None), ("assistant", "a", 2))
    assert "weight" in refusal(jsonl(*rows, odd)).details[0]["reason"]


def test_what_is_not_read_of_a_conversation_is_named(profile):
    rows = []
    for n in range(6):
        row = conversation(
            ("system", "sort", None),
            ("user", "hi", None),
            ("assistant", "hello", None),
            ("user", f"q{n}", None),
            ("assistant", "ab"[n % 2], None),
        )
        rows.append({**row, "tools": [{}], "functions": None})
    warnings = warned(profile(jsonl(*rows)), "unused_content")
    assert {warning["what"]: warning["count"] for warning in warnings} == {
        "system messages": 6, "earlier turns": 6, "key 'tools'": 6,
    }  # fmt: skip


def test_an_answer_after_a_call_is_the_answer(examples):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"q{n}"},
                call,
                {"role": "tool", "content": "{}"},
                {"role": "assistant", "content": "ab"[n % 2]},
            ]
        }
        for n in range(4)
    ]
    assert [(row.input, row.target) for row in examples(jsonl(*rows))][:2] == [("q0", "a"), ("q1", "b")]


def test_conversations_of_sharegpt_are_read(profile, examples):
    rows = [
        {"id": n, "conversations": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": "ab"[n % 2]}]}
        for n in range(6)
    ]
    assert profile(jsonl(*rows)).format == "chat"
    assert [(row.input, row.target) for row in examples(jsonl(*rows))][:2] == [("q0", "a"), ("q1", "b")]


# Long texts


def test_long_texts_are_counted_by_words(profile):
    rows = [{"text": "word " * (300 if n < 3 else 20), "label": "ab"[n % 2]} for n in range(8)]
    found = profile(jsonl(*rows))
    assert found.words == {"64": 3, "128": 3, "256": 3}
    assert found.long_rows == {"64": [1, 2, 3], "128": [1, 2, 3], "256": [1, 2, 3]}
    assert [count_longer({"64": 3, "256": 2}, most) for most in (66, 256, 258, 512)] == [3, 2, 2, 0]
