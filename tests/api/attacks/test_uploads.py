"""Uploads that are made to hurt, over HTTP: each is refused in words, and the server goes on.

What an attacker got before, one file each, with validation on the API's own threads: the seconds are of computing, in
which predictions waited for the interpreter. Single checks are tested in `tests/models/datasets/test_hostile_*.py`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import stat
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.settings import Settings
from tests.api.conftest import Server, Tenant
from tests.models.datasets.media_files import archive, folders, picture, png_header

TABLE = "text,label\n" + "".join(f"question {number},{'card' if number % 2 else 'refund'}\n" for number in range(10))


def bomb() -> bytes:
    # Before: refused as well. 180 MB of zeros in 180 kB: an archive's directory says so.
    return archive({**folders(), **{f"ants/bomb{number}.jpg": bytes(60 * 10**6) for number in range(3)}})


def overlapping_bomb() -> bytes:
    # A thousand names for one packed megabyte, as in David Fifield's "better zip bomb". Before: refused as well.
    single = archive({"ants/0000.jpg": bytes(10**6)})
    start = single.index(b"PK\x01\x02")
    end = single.index(b"PK\x05\x06")
    entries = b"".join(single[start:end].replace(b"0000", f"{number:04}".encode()) for number in range(1_000))
    tail = b"PK\x05\x06" + bytes(4) + (1_000).to_bytes(2, "little") * 2
    return single[:start] + entries + tail + len(entries).to_bytes(4, "little") + start.to_bytes(4, "little") + bytes(2)


def link() -> bytes:
    buffer = io.BytesIO(archive(folders()))
    with zipfile.ZipFile(buffer, "a") as file:
        entry = zipfile.ZipInfo("ants/link.jpg")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO(archive(folders()))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("ants/1.jpg", picture(seed=9))
    return buffer.getvalue()


def repeated_texts() -> bytes:
    # Before: 9 GB of texts to look at, more than 90 s. Now: refused at 64 MB.
    texts = pa.array([f"{'word ' * 18_000}{number}" for number in range(4)]).dictionary_encode()
    table = pa.table({"text": texts.take(pa.array([0, 1, 2, 3] * 25_000)), "label": ["a", "b"] * 50_000})
    return parquet(table)


def parquet(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def wrong_names() -> bytes:
    # Before: 90 s and more. 1,000 rows that name files which are almost there.
    names = [f"{'pic' * 20}{number}.jpg" for number in range(1_000)]
    rows = "".join(f"{'pic' * 20}{number}.png,{'ab'[number % 2]}\n" for number in range(1_000))
    return archive({**dict.fromkeys(names, picture()), "t.csv": ("file,label\n" + rows).encode()})


LAUGHS = 'version: "3.1"\nnlu:\n- intent: greet\n  examples: |\n    - hey\n' + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

ATTACKS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zip bomb": ("p.zip", bomb, "oversized_archive"),
    "overlapping zip bomb": ("p.zip", overlapping_bomb, "oversized_archive"),
    "zip in zip": ("p.zip", lambda: archive({"in.zip": archive({"a": bytes(10**7)})}), "wrong_format"),
    "gzip bomb": ("rows.csv", lambda: gzip.compress(bytes(10**8)), "wrong_format"),
    "gzip in gzip": ("rows.csv.gz", lambda: gzip.compress(gzip.compress(bytes(10**7))), "wrong_format"),
    "bzip2 bomb": ("rows.csv", lambda: bz2.compress(bytes(10**7)), "wrong_format"),
    "xz bomb": ("rows.csv", lambda: lzma.compress(bytes(10**7)), "wrong_format"),
    "parquet repeats": ("rows.parquet", repeated_texts, "oversized_rows"),
    "traversal": ("p.zip", lambda: archive({**folders(), "../../etc/cron.d/x.jpg": picture()}), "invalid_dataset"),
    "absolute name": ("p.zip", lambda: archive({**folders(), "/etc/passwd.jpg": picture()}), "invalid_dataset"),
    "symbolic link": ("p.zip", link, "invalid_dataset"),
    "one name twice": ("p.zip", twice, "invalid_dataset"),
    "wrong names": ("p.zip", wrong_names, "invalid_dataset"),
    # Before: 2 s for each such name, and 100,000 may be in an archive.
    "name of accents": ("p.zip", lambda: archive({f"a{'̖̕' * 9_000}/1.jpg": picture()}), "overlong_name"),
    "pixel bomb": ("p.zip", lambda: archive(folders(png_header(60_000, 60_000))), "invalid_dataset"),
    # Before: 90 s and more for a tenth of that.
    "a million columns": ("rows.csv", lambda: b"a," * 990_000 + b"b\n" + b"x," * 9 + b"\n", "overlong_header"),
    # Before: 7 s for 20,000, a minute for 50,000.
    "columns of 0 and 1": (
        "rows.csv",
        (",".join(["some text", *map("kind{}".format, range(20_000))]) + "\n" + "a b" + ",0" * 20_000).encode,
        "too_many_columns",
    ),
    "header that never ends": ("rows.csv", lambda: b'"text\n"' + b',"a\n"' * 350_000, "overlong_header"),
    # Before: 500, "the server had an error", and a traceback in the log.
    "deep JSON": (
        "rows.jsonl",
        lambda: b'{"text": "a", "label": "b"}\n{"text": ' + b"[" * 1_000 + b"]" * 1_000 + b', "label": "b"}\n',
        "invalid_dataset",
    ),
    "deeper JSON": ("rows.jsonl", lambda: b'{"text": "a", "label": "b"}\n' + b'{"text": ' * 200_000, "invalid_dataset"),
    "an object of 100,000 keys": (
        "rows.jsonl",
        ('{"text": "a", "label": "b"}\n' + json.dumps({f"k{number}": 0 for number in range(100_000)})).encode,
        "invalid_dataset",
    ),
    # Before: 90 s and more.
    "label of accents": ("rows.csv", (TABLE + "a," + "̖̕" * 400_000 + "\n").encode, "invalid_dataset"),
    "cell of a million labels": (
        "rows.csv",
        ("text,labels\nb,x|y\n" + "a," + "|".join("x" * 900_000) + "\n").encode,
        "invalid_dataset",
    ),
    # Before: 25 s.
    "backtracking": ("nlu.yml", ("version:" + " " * 60_000 + "\n" + TABLE).encode, "unknown_columns"),
    # YAML is read in one place only, where YOLO's classes have names, and no anchor is followed there.
    "billion laughs": ("nlu.yml", LAUGHS.encode, "wrong_format"),
    "picture and archive in one": ("p.zip", lambda: picture() + archive(folders()), "wrong_format"),
    "PDF and archive in one": ("p.zip", lambda: b"%PDF-1.7\n" + archive(folders()), "wrong_format"),
    "pickle": ("rows.csv", lambda: b"\x80\x04\x95cposix\nsystem\n(S'id'\ntR.\0", "wrong_format"),
    "sentence that never ends": ("rows.conll", lambda: b"Berlin B-city\n" * 130_000, "invalid_dataset"),
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_in_words_and_the_server_goes_on(server: Server, tenant: Tenant, attack: str) -> None:
    filename, make, code = ATTACKS[attack]
    content = make()
    assert len(content) < server.settings.upload_limit_bytes
    answer = tenant.http.post("/v1/files", files={"file": (filename, content)}, data={"purpose": "fine-tune"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code), error["message"][:300]
    assert error["details"][0]["mend"]
    assert len(answer.content) < 200_000
    good = tenant.http.post("/v1/files", files={"file": ("t.csv", TABLE)}, data={"purpose": "fine-tune"})
    assert good.status_code == 200, good.text
    assert server.anonymous.get("/readyz").json()["checks"]["uploads"] == "ok"


@pytest.mark.parametrize(
    "filename",
    [
        "../../etc/passwd",
        "..\\..\\boot.ini",
        "a\u202egpj.csv",
        "\ufeff.csv",
        "x" * 2_000 + ".csv",
        "%2e%2e%2fa.csv",
        "；rm.csv",
    ],
)
def test_a_files_name_is_a_word_and_never_a_path(tenant: Tenant, filename: str) -> None:
    answer = tenant.http.post("/v1/files", files={"file": (filename, TABLE)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200, answer.text
    name = answer.json()["filename"]
    assert "/" not in name
    assert "\\" not in name
    assert name.isprintable()
    assert 1 <= len(name) <= 255


@pytest.mark.parametrize("header", ["gzip", "deflate", "br", "gzip, gzip"])
def test_a_packed_body_is_never_unpacked(tenant: Tenant, header: str) -> None:
    body = gzip.compress(bytes(10**6))
    headers = {"content-encoding": header, "content-type": "multipart/form-data; boundary=x"}
    answer = tenant.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_form"


@pytest.mark.slow
def test_reading_ends_when_its_client_leaves(
    settings_for: Callable[..., Settings], run_server: Callable[[Settings], AbstractContextManager[Server]]
) -> None:
    # Before: what a client had sent was read to its end, whoever waited.
    rows = "".join(f"question {n} {'x' * (n % 90)},{'ab'[n % 2]}\n" for n in range(800_000))
    with run_server(settings_for(upload_limit_bytes=10**9)) as server:
        tenant = server.tenant("acme")
        pool = server.app.state.context.resources.validations

        def send() -> None:
            with pytest.raises(httpx.ReadTimeout):
                # It leaves as soon as its file is being read.
                tenant.http.post(
                    "/v1/files", files={"file": ("t.csv", "text,label\n" + rows)}, timeout=httpx.Timeout(60, read=0.5)
                )

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        deadline = time.monotonic() + 60
        while pool.counts()["running"] or pool.counts()["waiting"]:
            assert time.monotonic() < deadline, "it is still read"
            time.sleep(0.05)
        assert tenant.http.get("/v1/files").json()["data"] == []
        answer = tenant.http.post("/v1/files", files={"file": ("t.csv", TABLE)}, data={"purpose": "fine-tune"})
        assert answer.status_code == 200
