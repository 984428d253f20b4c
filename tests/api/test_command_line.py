"""The `graft` commands against a real server: names for ids, suggestions, what they print."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.client import Client
from deploy.cli.connection import Connection
from deploy.cli.console import err, out
from deploy.cli.errors import TO_UTF8
from deploy.cli.examples import call_of
from deploy.cli.main import app
from deploy.cli.wording import in_commands

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant

Graft = Callable[..., Result]
Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def graft(server: Server, tenant: Tenant, tmp_path: Path) -> Graft:
    """Runs a command as the tenant, or as the operator with `operator=True`."""

    def run(*words: str, stdin: str | bytes | None = None) -> Result:
        env = {"GRAFT_SERVER": server.url, "GRAFT_API_KEY": tenant.key, "XDG_CONFIG_HOME": str(tmp_path)}
        env["GRAFT_ADMIN_KEY"] = server.settings.admin_key.get_secret_value()
        return CliRunner().invoke(app, list(words), env=env, input=stdin)

    return run


def test_names_stand_for_ids(graft: Graft, tenant: Tenant, publish: Publish) -> None:
    job = publish("tickets")
    for reference in (job["id"], "tickets", "tickets@1", job["fine_tuned_model"]):
        shown = graft("job", reference, "--json")
        assert json.loads(shown.stdout)["id"] == job["id"], shown.stderr
    by_name = graft("file", "tickets.csv", "--json")
    assert json.loads(by_name.stdout)["id"] == job["training_file"]
    rotated = graft("keys", "rotate", tenant.name, "tests", "--grace", "3600")
    assert rotated.stdout.startswith("gr-"), rotated.stderr
    twice = graft("keys", "revoke", tenant.name, "tests")
    assert twice.exit_code == 1
    assert "2 keys are called 'tests'" in twice.stderr
    later = publish("tickets", wait=False)["id"]
    assert json.loads(graft("job", "tickets", "--json").stdout)["id"] == later
    assert json.loads(graft("job", "tickets@1", "--json").stdout)["id"] == job["id"]
    assert "it has 1, 2" in graft("job", "tickets@9").stderr


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "tikcets", "hello"),
        ("model", "tikcets"),
        ("versions", "tikcets"),
        ("promote", "tikcets", "1"),
        ("job", "tikcets"),
        ("cancel", "tikcets"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_one(graft: Graft, publish: Publish, words: tuple[str, ...]) -> None:
    publish("tickets")
    answer = graft(*words)
    assert answer.exit_code == 1
    assert "Did you mean 'tickets'?" in answer.stderr


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("file", "tickets.cvs"), "tickets.csv"),
        (("trian", "x.csv"), "train"),
        (("train", "x.csv", "--sufix"), "--suffix"),
    ],
)
def test_other_misspelt_words(graft: Graft, upload: str, words: tuple[str, ...], nearest: str) -> None:
    assert upload
    answer = graft(*words)
    assert answer.exit_code != 0
    assert nearest in answer.stderr


def test_commands_in_singular_and_plural(graft: Graft, publish: Publish) -> None:
    job = publish("tickets")
    for one, many in (
        (["job"], ["jobs"]),
        (["job", job["id"]], ["jobs", job["id"]]),
        (["model", "tickets"], ["models", "tickets"]),
        (["file"], ["files"]),
        (["version", "tickets"], ["versions", "tickets"]),
        (["alias", "tickets"], ["aliases", "tickets"]),
        (["customer", "list"], ["customers", "list"]),
    ):
        first, second = graft(*one), graft(*many)
        assert first.exit_code == 0, first.stderr
        assert first.stdout == second.stdout != ""


def test_lists_are_filtered_by_state(graft: Graft, tenant: Tenant, publish: Publish, upload: str) -> None:
    done = publish("tickets")["id"]
    waiting = tenant.http.post("/v1/fine_tuning/jobs", json={"training_file": upload, "suffix": "other"}).json()["id"]
    for filters, shown in (
        (["--status", "succeeded"], {done}),
        (["--status", "queued"], {waiting}),
        (["--status", "queued", "--status", "succeeded"], {done, waiting}),
        (["--model", "other"], {waiting}),
        (["--model", f"ft:minilm:{tenant.name}:tickets@1"], {done}),
        (["--status", "failed"], set()),
    ):
        assert set(re.findall(r"ftjob-\w+", graft("jobs", *filters).stdout)) == shown
    wrong = graft("jobs", "--status", "done")
    assert wrong.exit_code == 1
    assert "--status: Input should be" in wrong.stderr
    assert "'succeeded'" in wrong.stderr
    assert "--hyperparameter n_epochs: must be" in graft("train", __file__, "--hyperparameter", "n_epochs=0").stderr
    scope = " ".join(graft("keys", "create", tenant.name, "--scope", "train", "--scope", "read").stderr.split())
    assert "--scope: Input should be 'predict', 'train' or 'manage'" in scope
    assert "scopes" not in scope
    keys = {status: graft("keys", "list", tenant.name, "--status", status).stdout for status in ("valid", "revoked")}
    assert "tests" in keys["valid"]
    assert keys["revoked"] == ""
    assert "No job is of this state" in graft("jobs", "--model", "never").stderr


def test_watch_shows_every_event_in_order(graft: Graft, tenant: Tenant, publish: Publish) -> None:
    job = publish("tickets", versions=60)
    listed = tenant.http.get(f"/v1/fine_tuning/jobs/{job['id']}/events", params={"order": "asc", "limit": 100}).json()
    more = tenant.http.get(
        f"/v1/fine_tuning/jobs/{job['id']}/events",
        params={"order": "asc", "limit": 100, "after": listed["last_id"]},
    ).json()
    messages = [event["message"] for event in (*listed["data"], *more["data"])]
    assert len(messages) > 100
    shown = graft("watch", "tickets").stderr.splitlines()
    assert [line.partition(" ")[2] for line in shown if re.match(r"\d\d:\d\d:\d\d ", line)] == messages


def test_a_model_is_shown_with_its_versions_and_aliases(graft: Graft, tenant: Tenant, publish: Publish) -> None:
    publish("tickets", versions=3)
    shown = graft("model", "tickets").stdout
    assert re.search(r"version +3 of 3 \(live\)", shown)
    assert re.search(r"score +accuracy 0.530", shown)
    assert re.search(r"version +1 of 3 \(live: 3\)", graft("model", "tickets@1").stdout)
    assert re.search(r"promote +never", graft("model", "tickets", "--promote", "never").stdout)
    assert "auto" in graft("model", "tickets", "--promote", "sometimes").stderr
    graft("promote", "tickets", "2", "--alias", "canary")
    refused = graft("delete-version", "tickets", "2")
    assert "'canary' points at it" in refused.stderr
    assert "is deleted" in graft("delete-alias", "tickets", "canary").stdout
    assert "is deleted" in graft("delete-version", "tickets", "2").stdout
    assert "version 1 answers now (before: version 3)" in graft("rollback", "tickets").stdout
    assert "nothing to go back to" in graft("rollback", "tickets").stderr
    assert "version 1 answers, as before" in graft("promote", "tickets", "1").stdout
    assert "(none did before)" in graft("promote", "tickets", "3", "--alias", "canary").stdout
    usage = graft("usage").stdout
    assert f"ft:minilm:{tenant.name}:tickets" in usage
    assert "training" in usage


def test_usage_of_the_last_minutes_counts_the_hour_that_they_are_in(graft: Graft, publish: Publish) -> None:
    publish("tickets")
    shown = graft("usage", "--days", "0.001", "--hours")
    assert "training" in shown.stdout, shown.stderr
    longest = graft("usage", "--days", "366")  # as far back as the API answers
    assert "training" in longest.stdout, longest.stderr


def test_a_file_is_checked_here_as_an_upload_is_there(graft: Graft, tenant: Tenant, tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text("text,label\n" + "".join(f"row {n} of {n % 2},{n % 2}\n" for n in range(10)) + "row 1 of 1,1\n")
    uploaded = tenant.http.post("/v1/files", files={"file": (good.name, good.read_bytes())}).json()
    checked = json.loads(graft("check", str(good), "--json").stdout)
    both = checked.keys() & uploaded.keys()
    assert both >= {"format", "task", "rows", "columns", "labels", "warnings"}
    assert {name: checked[name] for name in both} == {name: uploaded[name] for name in both}
    assert checked["warnings"][0]["message"] in graft("check", str(good)).stdout.replace("\n", " ")
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nfine,a\n,b\nno label,\n")
    refused = tenant.http.post("/v1/files", files={"file": (bad.name, bad.read_bytes())}).json()["error"]
    local = graft("check", str(bad))
    assert local.exit_code == 1
    for detail in refused["details"]:
        assert detail["reason"] in local.stderr
        assert detail["mend"] in local.stderr
    one = tmp_path / "one.csv"
    one.write_text("text,label\n" + "a text,a\n" * 5)
    assert graft("check", str(one)).stderr.count("All 5 rows carry the same label") == 1
    few = tmp_path / "few.csv"
    few.write_text("text,label\none,a\ntwo,a\n")
    assert graft("check", str(few)).exit_code == 1
    assert "can be scored on" in graft("check", str(few), "--validation").stdout
    other = tmp_path / "other.csv"
    other.write_text(good.read_text().replace("text,label", "body,kind"))
    printed = graft("check", str(other), "--column", "text=body", "--column", "label=kind").stdout.replace("\n", " ")
    assert "--column text=body --column label=kind" in printed
    named = graft("check", str(good), "--column", "text=body")
    assert named.exit_code == 1
    assert "body" in named.stderr


def test_check_says_what_an_upload_says_of_long_texts(graft: Graft, tenant: Tenant, tmp_path: Path) -> None:
    long = tmp_path / "long.csv"
    long.write_text("text,label\n" + "".join(f"{'word ' * (300 + n)}{n},{n % 2}\n" for n in range(24)))
    uploaded = tenant.http.post("/v1/files", files={"file": (long.name, long.read_bytes())}).json()
    assert json.loads(graft("check", str(long), "--json").stdout)["warnings"] == uploaded["warnings"]
    assert any("24 texts" in warning["message"] for warning in uploaded["warnings"])


def test_check_answers_with_json_about_a_bad_file_too(graft: Graft, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\n" + "a text,\n" * 120 + ",a\n")
    answer = graft("check", str(bad), "--json")
    assert (answer.exit_code, answer.stderr) == (1, "")
    error = json.loads(answer.stdout)["error"]
    assert (error["code"], error["total"], len(error["details"])) == ("invalid_dataset", 121, 100)
    assert "(and 119 more alike)" in error["message"]
    shown = graft("check", str(bad))
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.count("has no label") == 2  # in the message, and in one line of the table
    assert "1, 2, 3, 4, 5, … (100 rows)" in shown.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ("body,kind\nx,a\n", (), ["--column text=body", "--column label=kind"]),
        ("my body,kind\nx,a\n", ("--column", "text=my bod"), ["--column 'text=my body'"]),
        ("text,label,labels\nx,a,a|b\n", (), ["--task text-classification", "--task multi-label-classification"]),
        ("text,label\n" + "".join(f"t,{n}.5\n" for n in range(9)), (), ["--column value=label"]),
        ('{"text": "x", "label": [[0, 1, "a"]]}\n' * 4, (), ["--column spans=label"]),
        ("text,label\n" + "x,a\n" * 3 + "x,b\n" * 3 + "x,c\n", (), ["--hyperparameter rare_labels=merge"]),
        ("text,label,weight\n" + "x,a,1\nx,b,2\n" * 3, (), ["'weight' is not used"]),
    ],
)
def test_advice_is_given_in_options(
    graft: Graft, tmp_path: Path, content: str, words: tuple[str, ...], said: list[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    answer = graft("check", str(file), *words)
    shown = " ".join((answer.stdout + answer.stderr).split())
    assert "columns=" not in shown
    assert "task=" not in shown
    assert "hyperparameters {" not in shown
    for option in said:
        assert option in shown, shown


def test_every_message_of_an_error_can_be_said_in_options() -> None:
    import models.services.access.errors
    import models.services.errors  # noqa: F401
    from models.errors import GraftError

    kinds = [GraftError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for message in {kind.message.replace("{{", "{").replace("}}", "}") for kind in kinds}:
        for field in (
            "columns=",
            "task=",
            "POST /v1/customers",
            "POST /v1/fine_tuning",
            "purpose '",
            "hyperparameters {",
        ):
            assert field not in in_commands(message), message


def test_a_version_is_named_in_one_word_or_two(graft: Graft, tenant: Tenant, publish: Publish) -> None:
    publish("tickets", versions=3)
    assert "version 1 answers now" in graft("promote", "tickets@1").stdout
    assert "version 2 answers now" in graft("promote", "tickets", "2").stdout
    assert "version 3 answers now" in graft("promote", f"ft:minilm:{tenant.name}:tickets@3").stdout
    assert "Which version?" in graft("promote", "tickets").stderr
    assert "Which version?" in graft("promote", "tickets@1", "2").stderr
    assert "it has 1, 2, 3" in graft("promote", "tickets@7").stderr
    assert "it has 1, 2, 3" in graft("predict", "tickets@7", "x").stderr
    assert "tickets@1 is deleted" in graft("delete-version", "tickets@1").stdout
    graft("promote", "tickets@2", "--alias", "canary")
    assert "tickets@canary is deleted" in graft("delete-alias", "tickets@canary").stdout


def test_predict_says_what_is_not_read(graft: Graft, publish: Publish) -> None:
    publish("tickets")
    long = "where is it " * 400
    assert "longer than what the base reads" in graft("predict", "tickets", long).stderr
    assert "1 of 2 inputs are longer" in graft("predict", "tickets", "short", long).stderr
    assert "longer" not in graft("predict", "tickets", "short").stderr
    lines = graft("predict", "tickets", "short", long, "--json").stdout.splitlines()
    assert [json.loads(line)["truncated"] for line in lines] == [False, True]
    exported = " ".join(graft("export", "tickets").stderr.split())
    assert "'tickets@1' does not write, it answers with text-classification" in exported
    base = graft("predict", "minilm", "x").stderr
    assert "graft train FILE --base minilm" in " ".join(base.split())


def test_warnings_are_printed_as_soon_as_a_job_is_accepted(graft: Graft, tenant: Tenant, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"row {n % 11},{n % 11 % 2}\n" for n in range(12)))
    options = ["--strategy", "head", "--hyperparameter", "n_epochs=3", "--hyperparameter", "lexical=false"]
    started = graft("train", str(rows), *options, "--no-wait")
    job = tenant.http.get(f"/v1/fine_tuning/jobs/{started.stdout.strip()}").json()
    assert (job["hyperparameters"]["n_epochs"], job["hyperparameters"]["lexical"]) == (3, False)
    assert {warning["code"] for warning in job["warnings"]} >= {"near_duplicates", "no_effect"}
    for warning in job["warnings"]:
        assert warning["message"] in started.stderr
    assert "NAME=VALUE" in graft("train", str(rows), "--hyperparameter", "n_epochs").stderr


def test_texts_and_labels_are_neither_markup_nor_commands_of_the_terminal(
    graft: Graft, publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they are in a curl call to copy; control characters show as what cannot be shown, and in JSON as escapes."""
    label, shown = "[/x] :dog: \x1b[31mred\x1b]0;pwn\x7f\x9b", "[/x] :dog: \ufffd[31mred\ufffd]0;pwn\ufffd\ufffd"
    rows = tmp_path / "t.csv"
    rows.write_text("text,label\n" + "".join(f"text {n} of {n % 2},{('b', label)[n % 2]}\n" for n in range(8)))
    checked = graft("check", str(rows))
    assert checked.exit_code == 0, checked.stderr
    assert shown in checked.stdout
    publish("tickets", labels=(label, f"{label} 2"))
    answer = graft("predict", "tickets", "text [/x] \x1b[2J")
    assert answer.stdout.startswith(f"text [/x] \ufffd[2J  {shown}"), answer.stderr
    for command in (("check", str(rows), "--json"), ("predict", "tickets", "one", "--json")):
        written = graft(*command).stdout
        assert r"\u001b[31mred\u001b]0;pwn\u007f\u009b" in written
        assert "\x9b" not in written
        assert json.dumps(label)[1:-1] in json.dumps(json.loads(written))
    for console in (out, err):
        console.print("text [/x] 0 :dog: \x1b[2J", soft_wrap=True)
    assert capsys.readouterr() == ("text [/x] 0 :dog: \ufffd[2J\n",) * 2


def test_bytes_that_are_not_utf_8_are_named(graft: Graft, publish: Publish, tmp_path: Path) -> None:
    """An argument's come as Python hands them over: as surrogates, which can be neither sent nor printed."""
    publish("tickets")
    lines = graft("predict", "tickets", stdin="eins\r\n\nzw\u00f6lf\n".encode())
    assert lines.stdout.splitlines()[1].startswith("zw\u00f6lf  "), lines.stderr
    wrong = graft("predict", "tickets", stdin=b"one\n\ncaf\xe9\n")
    assert (wrong.exit_code, wrong.stderr) == (1, "Error: Line 3 of stdin is not UTF-8. " + TO_UTF8 + "\n")
    rows = tmp_path / "caf\udce9.csv"
    rows.write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(8)))
    for words in (
        ("predict", "tickets", "caf\udce9"),
        ("train", str(rows), "--suffix", "\udce9", "--no-wait"),
        ("train", str(rows), "--no-wait"),
        ("jobs", "--model", "\udce9"),
        ("model", "\udce9"),
    ):
        refused = graft(*words)
        assert (refused.exit_code, type(refused.exception)) == (1, SystemExit), words
        assert "\\udce9" in refused.stderr
        assert "is not UTF-8, and cannot be sent" in refused.stderr
    secret = graft("jobs", "--key", "gr-secret\udce9")
    assert secret.exit_code == 1
    assert "The key has characters that no key has" in secret.stderr
    assert "secret" not in secret.stderr
    assert "caf\ufffd.csv can be trained on" in graft("check", str(rows)).stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "words",
    [
        ("settings",),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (("settings", "--markdown"), ("--version",), ("--help",))
        ),
    ],
)
def test_an_output_that_takes_nothing_is_told_in_a_line(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "deploy.cli.main", *words]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "Error: Cannot read or write: No space left on device.\n")


@pytest.mark.parametrize(
    "words", ["settings", *(pytest.param(words, marks=pytest.mark.slow) for words in ("--version", "--help", ""))]
)
def test_an_output_that_is_closed_is_told_in_a_line(words: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m deploy.cli.main {words} >&-"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    said = "Error: Standard output is closed. Leave out >&-, or write to a file or to /dev/null.\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_the_call_that_is_shown_fits_the_task(server: Server, tenant: Tenant, tmp_path: Path, publish: Publish) -> None:
    texts = tmp_path / "tickets.csv"
    texts.write_text("text,label\n" + "".join(f"it's ticket {n},{n % 2}\n" for n in range(8)))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair,value\n" + "".join(f"one {n},other {n},{n}.5\n" for n in range(8)))
    with Client(Connection(server.url, tenant.key)) as client:

        def body(file: Path, local: bool = True) -> Any:
            stored = tenant.http.post("/v1/files", files={"file": (file.name, file.read_bytes())}).json()
            job = {"suffix": "tickets", "task": stored["task"], "training_file": stored["id"]}
            words = shlex.split(call_of(client, job, file if local else None))
            assert words[:2] == ["curl", f"{server.url}/v1/models/tickets/predict"]
            return json.loads(words[words.index("-d") + 1])["inputs"]

        assert body(texts) == ["it's ticket 0"]
        assert body(pairs) == [{"text": "one 0", "text_pair": "other 0"}]
        assert set(body(pairs, local=False)[0]) == {"text", "text_pair"}
        publish("tickets")
        answer = tenant.http.post("/v1/models/tickets/predict", json={"inputs": body(texts, local=False)})
        assert answer.status_code == 200
        pinned = {"suffix": "tickets", "task": "text-classification", "training_file": "file-0"}
        pinned["fine_tuned_model"] = "ft:minilm:acme:tickets@2"
        assert "/v1/models/tickets@2/predict" in call_of(client, pinned)
        for task, file in (("image-classification", "photo.jpg"), ("audio-classification", "sound.wav")):
            call = call_of(client, {"suffix": "ants", "task": task, "training_file": "file-0"})
            assert f"-F file=@{file}" in call
            assert "-d " not in call
