from __future__ import annotations

import codecs

import pytest

from models.datasets.errors import ColumnTwice, InvalidDataset, NoRows, NotUtf8
from models.datasets.validation import Limits

TABLE = "text,label\nwhere is my card,card\nI lost it,lost\nno card yet,card\nstolen!,lost\n"
TEXTS = ["where is my card", "I lost it", "no card yet", "stolen!"]


def test_a_plain_table_is_profiled(profile):
    found = profile(TABLE)
    assert (found.format, found.task, found.rows) == ("csv", "text-classification", 4)
    assert found.labels == {"card": 2, "lost": 2}
    assert found.columns == {"text": "text", "label": "label"}


@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        TABLE.replace("\n", "\n\n\n"),
        "\n\n" + TABLE + "\n\n",
        TABLE.rstrip("\n"),
        codecs.BOM_UTF8 + TABLE.encode(),
        TABLE.encode("utf-16"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        TABLE.replace("text,label", " Text , LABEL "),
        TABLE.replace("text,label", '"text","label"'),
        TABLE.replace(",", ",note,").replace("\n", ",17\n"),
    ],
    ids=["semicolon", "tab", "crlf", "cr", "blank lines", "blank around", "no last newline", "bom", "utf-16le",
         "utf-16be", "header case", "quoted header", "extra columns"],
)  # fmt: skip
def test_dialects_that_programs_write_read_the_same(examples, content):
    rows = examples(content)
    assert [row.input for row in rows] == TEXTS
    assert [row.target for row in rows] == ["card", "lost", "card", "lost"]
    assert [row.row for row in rows] == [1, 2, 3, 4]


def test_quoted_newlines_delimiters_and_quotes_stay_in_the_text(examples):
    texts = ['line one\nline two, with "quotes"', " padded ", "a;b\tc", "é — 漢字 😀"]
    quoted = [text.replace('"', '""') for text in texts]
    content = "text,label\n" + "".join(f'"{text}", {"ab"[place % 2]} \n' for place, text in enumerate(quoted))
    rows = examples(content)
    assert [row.input for row in rows] == texts
    assert [row.target for row in rows] == ["a", "b", "a", "b"]


def test_every_bad_row_is_reported_with_its_row_and_line(refusal):
    content = 'text,label\nfine,a\n"two\nlines",b\n\n,a\n"too",many,fields\nonly one\nx,\n'
    error = refusal(content)
    assert type(error) is InvalidDataset
    assert error.code == "invalid_dataset"
    places = [(detail["row"], detail["line"], detail["column"]) for detail in error.details]
    assert places == [(3, 6, "text"), (4, 7, None), (5, 8, None), (6, 9, "label")]
    assert "4 bad rows of 6" in str(error)


def test_a_hundred_problems_are_shown_and_all_are_counted(refusal):
    error = refusal("text,label\n" + "fine,a\n,\n" * 300)
    assert len(error.details) == 100
    assert error.total == 600
    assert "300 bad rows of 600" in str(error)
    assert "first 100 of 600" in str(error)


def test_a_quote_that_is_never_closed_names_the_line_where_it_opens(refusal):
    error = refusal('text,label\na,x\n"b,y\nc,x\nd,y\n')
    assert (error.details[-1]["row"], error.details[-1]["line"]) == (2, 3)
    assert "never closed" in error.details[-1]["reason"]


def test_text_after_a_closing_quote_is_one_bad_row(refusal):
    error = refusal('text,label\na,x\n"b" c,y\nd,x\n')
    assert [(detail["row"], detail["line"]) for detail in error.details] == [(2, 3)]


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n", "text,label\r\n\r\n", codecs.BOM_UTF8, b"  \n "])
def test_a_file_without_rows(refusal, content):
    assert isinstance(refusal(content), NoRows)


def test_other_encodings_name_the_byte_the_line_and_the_mend(refusal):
    content = "text,label\nnaïve,a\ncafé,b\n".encode("latin-1")
    error = refusal(content)
    assert isinstance(error, NotUtf8)
    assert f"offset {content.index(0xEF)}" in str(error)
    assert "line 2" in str(error)
    assert "iconv -f windows-1252 -t utf-8 tickets.csv" in str(error)


def test_a_bad_byte_far_into_the_file_is_found_at_its_place(refusal):
    good = ("text,label\n" + "größe,a\nx,b\n" * 300_000).encode()
    error = refusal(good + b"caf\xe9,a\n")
    assert f"offset {len(good) + 3} " in str(error)
    assert "line 600002" in str(error)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_without_a_mark_are_refused(refusal, encoding):
    error = refusal((TABLE * 3).encode(encoding))
    assert isinstance(error, NotUtf8)
    assert "iconv" in str(error)


def test_cut_off_utf16_is_refused(refusal):
    assert isinstance(refusal(TABLE.encode("utf-16")[:-1]), NotUtf8)


def test_nul_characters_are_bad_rows(refusal):
    error = refusal("text,label\na\0b,x\nc,y\0z\nd,x\n")
    assert [(detail["row"], detail["column"]) for detail in error.details] == [(1, "text"), (2, "label")]


def test_a_label_of_ten_kilobytes(refusal):
    error = refusal("text,label\na,x\nb,y\nc," + "l" * 10_240 + "\n")
    assert (error.details[0]["row"], error.details[0]["column"]) == (3, "label")
    assert "10240" in error.details[0]["reason"]


def test_a_text_over_the_limit(refusal):
    error = refusal(f"text,label\na,x\n{'b' * 101},y\n", limits=Limits(max_text_chars=100))
    assert (error.details[0]["row"], error.details[0]["column"]) == (2, "text")
    assert "101" in error.details[0]["reason"]


def test_long_texts_pass_the_csv_modules_own_limit(examples):
    text = "word " * 60_000
    rows = examples(f'text,label\n"{text}",a\nx,b\ny,a\nz,b\n', limits=Limits(max_text_chars=400_000))
    assert rows[0].input == text


def test_a_needed_column_named_twice(refusal):
    assert isinstance(refusal("text,text,label\na,b,x\nc,d,y\n"), ColumnTwice)


def test_columns_that_nobody_needs_may_be_named_twice(examples):
    assert len(examples("text,,,label\na,,,x\nb,,,y\nc,,,x\nd,,,y\n")) == 4


def test_trailing_empty_fields_of_a_spreadsheet_are_no_error(examples):
    assert len(examples("text,label\na,x,,\nb,y,,\nc,x,,\nd,y,,\n")) == 4
