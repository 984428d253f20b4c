"""Files as other tools write them: read, or refused with a command that makes them readable."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from models.datasets.errors import InvalidDataset, NotUtf8, UnknownColumns, WrongFormat
from models.datasets.examples import Span
from models.datasets.formats import charsets
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from tests.models.datasets.media_files import picture

TEXTS = ["open the door", "close the door", "open the gate", "close the gate", "open it now", "close it now"]
ROWS = [{"text": text, "label": text.split()[0]} for text in TEXTS]


def follow(folder: Path, filename: str, content: str | bytes, **options) -> list[dict]:
    """What the file holds once the advice of its refusal was followed; the command runs as a person would run it."""
    path = folder / filename
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidDataset) as caught:
        inspect(path, filename=filename, limits=Limits())
    command = re.search(r"(?:jq|awk|iconv|gunzip|python3) .*", str(caught.value))
    assert command, str(caught.value)
    if shutil.which(command[0].split()[0]) is None:
        pytest.skip(f"{command[0].split()[0]} is not installed here")
    before = set(folder.iterdir())
    subprocess.run(["sh", "-c", command[0]], cwd=folder, check=True)
    (made,) = set(folder.iterdir()) - before
    profile = inspect(made, filename=made.name, limits=Limits(), **options)
    from models.datasets.reading import read

    return [
        {"text": row.input, "target": row.target}
        for row in read(made, format=profile.format, task=profile.task, columns=profile.columns)
    ]


EXPECTED = [{"text": row["text"], "target": row["label"]} for row in ROWS]

# Quotes and delimiters


def test_a_tab_separated_file_has_no_quoting(examples):
    rows = ['"open the door\topen', "close the door\tclose", 'open the gate"\topen', "close the gate\tclose"]
    found = examples("text\tlabel\n" + "\n".join(rows) + "\n")
    assert [row.input for row in found] == ['"open the door', "close the door", 'open the gate"', "close the gate"]


def test_quotes_around_some_texts_of_a_tab_separated_file_are_theirs(examples):
    rows = ['open\t"open the door"', "close\tclose the door", 'open\t"open" it', 'close\t5" nails']
    found = examples("label\ttext\n" + "\n".join(rows) + "\n")
    assert [row.input for row in found] == ['"open the door"', "close the door", '"open" it', '5" nails']


@pytest.mark.parametrize("quoting", [0, 1])  # as needed, and everywhere
def test_a_csv_writer_with_tabs_is_read_back(examples, quoting):
    import csv

    texts = ['say "open"', "two\nlines", "a\ttab", "plain", '"', 'end"']
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", quoting=quoting)
    writer.writerows([("text", "label"), *((text, "ab"[at % 2]) for at, text in enumerate(texts))])
    assert [row.input for row in examples(out.getvalue())] == texts


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_rows_that_a_stray_quote_swallows_are_named(refusal, delimiter):
    lines = [
        "label;text",
        "open;open it",
        "close;close it",
        'open;"open the door',
        "close;shut",
        'open;push it"',
        "close;end",
    ]
    error = refusal("\n".join(line.replace(";", delimiter) for line in lines) + "\n")
    assert [(detail["row"], detail["line"]) for detail in error.details] == [(3, 4)]
    assert "line 4 to line 6" in error.details[0]["reason"]


def test_texts_of_several_lines_are_texts(examples):
    rows = ['open,"Hello,\nopen, please"', 'close,"close\nit, thanks"', "open,a", "close,b"]
    found = examples("label,text\n" + "\n".join(rows) + "\n")
    assert found[0].input == "Hello,\nopen, please"


@pytest.mark.parametrize("hint", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n"])
def test_the_hint_for_a_spreadsheet_is_skipped(examples, refusal, hint):
    found = examples(hint + "text;label\n" + "".join(f"{row['text']};{row['label']}\n" for row in ROWS))
    assert [(row.input, row.target) for row in found] == [tuple(row.values()) for row in ROWS]
    assert refusal(hint + "text;label\na;b\nc\n").details[0]["line"] == 4


def test_pipes_part_columns(examples):
    found = examples("text|label\n" + "".join(f"{row['text']}|{row['label']}\n" for row in ROWS))
    assert [row.target for row in found] == [row["label"] for row in ROWS]


# CoNLL


@pytest.mark.parametrize(
    "line", ["{token} {tag}", "{token}\t{tag}", "{token} NNP B-NP {tag}"], ids=["spaces", "tabs", "four columns"]
)
def test_conll_is_read(profile, examples, line):
    sentences = [[("Fly", "O"), ("to", "O"), (city, "B-city"), ("#", "O")] for city in ("Oslo", "Rome", "Lima", "Bonn")]
    content = "-DOCSTART- -X- O\n\n# a comment\n" + "\n".join(
        "".join(line.format(token=token, tag=tag) + "\n" for token, tag in sentence) for sentence in sentences
    )
    assert profile(content).format == "conll"
    found = examples(content)
    assert [row.input for row in found] == [f"Fly to {city} #" for city in ("Oslo", "Rome", "Lima", "Bonn")]
    assert found[1].target == (Span(7, 11, "city"),)


def test_a_token_without_a_tag_is_named(refusal):
    lines = ["in O", "Rome B-city", ""] * 30 + ["lost", "Oslo B-city", ""]
    error = refusal("\n".join(lines) + "\n")
    assert (error.details[0]["line"], error.details[0]["column"]) == (91, "tags")


# Documents of one piece


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("key", ["data", "training-examples"])
def test_one_object_around_the_rows(tmp_path, indent, key):
    content = json.dumps({"version": "1", key: ROWS}, indent=indent)
    assert follow(tmp_path, "my rows.json", content) == EXPECTED


def test_one_object_that_is_longer_than_what_is_looked_at(tmp_path):
    content = json.dumps({"rows": ROWS * 2_000})
    assert len(follow(tmp_path, "long.json", content)) == 12_000


@pytest.mark.parametrize("indent", [None, 2])
def test_one_array(tmp_path, indent):
    assert follow(tmp_path, "rows.json", json.dumps(ROWS, indent=indent)) == EXPECTED


def test_arrays_in_an_array(tmp_path):
    assert follow(tmp_path, "rows.json", json.dumps([list(row.values()) for row in ROWS])) == EXPECTED


def test_objects_of_several_lines(tmp_path):
    assert follow(tmp_path, "rows.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)) == EXPECTED


def test_one_object_of_columns(tmp_path):
    columns = {name: [row[name] for row in ROWS] for name in ("text", "label")}
    assert follow(tmp_path, "lists.json", json.dumps(columns)) == EXPECTED
    frame = {name: {str(at): row[name] for at, row in enumerate(ROWS)} for name in ("text", "label")}
    assert follow(tmp_path, "frame.json", json.dumps(frame)) == EXPECTED


def test_label_studio(tmp_path):
    def task(text, *values):
        return {"id": 1, "annotations": [{"result": [{"value": value} for value in values]}], "data": {"body": text}}

    rows = [task(row["text"], {"choices": [row["label"]]}) for row in ROWS]
    assert follow(tmp_path, "choices.json", json.dumps(rows)) == EXPECTED
    spans = [task(text, {"start": 0, "end": 4, "text": "open", "labels": ["verb"]}) for text in TEXTS]
    found = follow(tmp_path, "spans.json", json.dumps(spans))
    assert found[0] == {"text": TEXTS[0], "target": (Span(0, 4, "verb"),)}


_YAML = """version: "3.1"
nlu:
- intent: open
  examples: |
    - open the [door](thing)
    - open the [gate]{"entity": "thing"}
    - open: it now
- synonym: door
  examples: |
    - portal
- intent: close
  examples: |
    - close the door
    - close the gate
"""
_MARKDOWN = """## intent:open
- open the [door](thing)
- open the gate
- open: it now

## synonym:door
- portal

## intent:close
- close the door
- close the gate
"""


@pytest.mark.parametrize(("filename", "content"), [("nlu.yml", _YAML), ("nlu.md", _MARKDOWN)])
def test_rasa(tmp_path, filename, content):
    texts = ["open the door", "open the gate", "open: it now", "close the door", "close the gate"]
    assert follow(tmp_path, filename, content) == [
        {"text": text, "target": text.split()[0].strip(":")} for text in texts
    ]


def test_rasa_in_json(tmp_path):
    examples = [{"text": row["text"], "intent": row["label"], "entities": []} for row in ROWS]
    content = json.dumps({"rasa_nlu_data": {"common_examples": examples}}, indent=2)
    assert follow(tmp_path, "nlu.json", content) == EXPECTED


def test_gzip(tmp_path):
    content = gzip.compress(b"text,label\n" + b"".join(f"{r['text']},{r['label']}\n".encode() for r in ROWS))
    assert follow(tmp_path, "rows.csv.gz", content) == EXPECTED


# Encodings

_SPOKEN = {
    "gb18030": "我要取消订单,取消\n请帮我取消,取消\n快递到哪里了,物流\n什么时候送到,物流\n",
    "big5": "我要取消訂單,取消\n請幫我取消,取消\n包裹在哪裡,物流\n什麼時候送到,物流\n",
    "shift_jis": "注文をキャンセルしたい,取消\nキャンセルしてください,取消\n荷物はどこ,配送\nいつ届きますか,配送\n",
    "euc-kr": "주문을 취소해 주세요,취소\n취소하고 싶어요,취소\n소포가 어디 있나요,배송\n언제 도착하나요,배송\n",
    "windows-1251": "Отмените мой заказ,отмена\nХочу отменить,отмена\nГде посылка,доставка\nКогда привезут,доставка\n",
    "koi8-r": "Отмените мой заказ,отмена\nХочу отменить,отмена\nГде посылка,доставка\nКогда привезут,доставка\n",
    "windows-1252": "Où est mon café,où\nÇa coûte combien,où\nGröße wählen,größe\nDas ist zu groß,größe\n",
    "windows-1250": "Gdzie jest zamówienie,gdzie\nProszę o źródło,gdzie\nŻądam zwrotu,zwrot\nChcę zwrócić,zwrot\n",
}


@pytest.mark.parametrize("encoding", _SPOKEN)
def test_an_encoding_is_named_as_what_it_is_and_the_command_reads_it(tmp_path, encoding):
    content = "text,label\n" + _SPOKEN[encoding]
    found = follow(tmp_path, "spoken.csv", content.encode(encoding))
    assert [f"{row['text']},{row['target']}" for row in found] == _SPOKEN[encoding].splitlines()


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp437", "Größe"), ("mac_roman", "café"), ("cp850", "œuvre à côté"[1:])]
)
def test_an_encoding_that_is_in_doubt_is_not_named(refusal, encoding, text):
    error = refusal(f"text,label\n{text},a\n".encode(encoding))
    assert isinstance(error, NotUtf8)
    assert "iconv -f ENCODING" in str(error)


def test_readings_that_are_both_likely_are_shown():
    assert charsets.names_of("naïve café".encode("windows-1252"))[:2] == ["windows-1252", "windows-1250"]
    assert "'naïve': then it is windows-1252" in charsets.advice("naïve café".encode("windows-1252"), "a.csv")


# Archives


@pytest.mark.parametrize("folders", [("word", "ppt"), ("xl", "s"), ("sword", "axe")])
def test_folders_may_be_called_like_those_of_office_files(profile, folders):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for at in range(6):
            archive.writestr(f"{folders[at % 2]}/{at}.png", picture("PNG", seed=at))
    found = profile(buffer.getvalue(), filename="things.zip")
    assert found.task == "image-classification"
    assert set(found.labels) == set(folders)


@pytest.mark.parametrize(
    ("members", "found"),
    [
        (["[Content_Types].xml", "xl/workbook.xml", "xl/media/image1.png"], "an Excel workbook"),
        (["docProps/app.xml", "word/document.xml", "[Content_Types].xml"], "a Word document"),
        (["[Content_Types].xml", "ppt/presentation.xml"], "a presentation"),
        (["mimetype", "content.xml"], "an OpenDocument file"),
    ],
)
def test_office_files_are_known_by_their_members(refusal, members, found):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in members:
            content = (
                b"application/vnd.oasis.opendocument.spreadsheet" if name == "mimetype" else picture("PNG", seed=1)
            )
            archive.writestr(name, content)
    error = refusal(buffer.getvalue(), filename="table.bin")
    assert isinstance(error, WrongFormat)
    assert found in str(error)


# Texts that are no tables

_ROOT = Path(__file__).parents[3]
_PAGE = "<div>\n<h1>Opening hours</h1>\n<p>Monday, Tuesday, and by appointment</p>\n</div>\n"
_LETTER = "Dear Sir,\n\nI write to you, as promised, about the parcel.\nIt came late, and broken.\n\nYours,\nAnn\n"
_TALE = '"Hello," she said, "I am here."\n\nHe looked up, surprised.\nNobody had told him, of course.\n'
_SCRIPT = "function f(x) {\n  return x;\n}\nlet y = f(2);\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("README.md", "a Markdown document"),
        ("CHANGELOG.md", "a Markdown document"),
        ("LICENSE", "a text without columns"),
        ("models/datasets/written.py", "source code"),
        ("docker-compose.yml", "a configuration file"),
        (".ci/run", "a script"),
        (_PAGE, "an HTML or XML document"),
        (_LETTER, "a text without columns"),
        (_TALE, "a text without columns"),
        (_SCRIPT, "source code"),
        ("where is it\nit never came\nthank you all\n", "a text without columns"),
        ("text~label\nwhere is it~order\nthank you~thanks\n", "a text without columns"),
    ],
    ids=lambda given: given.split("\n")[0][:30],
)
def test_what_is_no_table_is_called_what_it_looks_like(refusal, content, kind):
    """Before: "No column 'text' and no column 'label'. The file's columns are '# Graft'."."""
    text = content if "\n" in content else (_ROOT / content).read_text(encoding="utf-8")
    error = refusal(text, filename="given.txt")
    assert isinstance(error, WrongFormat)
    assert str(error).startswith(f"'given.txt' is {kind}, by the look of it, where a table is expected")
    assert "a first line that names the columns (text,label)" in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("review\nI like it\nI do not\nwell, hm\n", 'Pass columns={"text": "review"}, or rename'),
        ("body,kind\nhello, dear,a\nwell, yes, no,b\nx,a\n", '"label": "kind"'),
        ("quelle,ziel\na,b\nc,d\ne,f\n", "The file's columns are 'quelle', 'ziel'."),
        (
            "I like it,positive\nI do not,negative\nwell,negative\n",
            "Name the columns text and label in the file's first line",
        ),
        ("# exported today\n\ntext,label\nx,a\ny,b\n", "The names of the columns are in line 3"),
    ],
)
def test_tables_without_the_right_names_are_tables(refusal, content, said):
    error = refusal(content)
    assert isinstance(error, UnknownColumns)
    assert said in str(error)
