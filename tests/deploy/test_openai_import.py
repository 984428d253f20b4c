"""Jobs of OpenAI's, carried over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.errors import CommandError
from deploy.cli.openai_import import check_rows, fields_of, read_job


def test_a_supervised_job_keeps_what_has_a_meaning_here() -> None:
    job = {
        "id": "ftjob-abc",
        "model": "gpt-4o-mini-2024-07-18",
        "user_provided_suffix": "support",
        "seed": 7,
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 1.8}},
        },
    }
    fields = fields_of(job)
    kept = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 1.8}
    assert json.loads(fields["method"]) == {"type": "supervised", "supervised": {"hyperparameters": kept}}
    assert (fields["suffix"], fields["seed"], "model" in fields) == ("support", "7", False)


def test_a_job_of_preferences_stays_one() -> None:
    fields = fields_of({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}})
    assert json.loads(fields["method"]) == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}


def test_an_old_job_has_its_hyperparameters_at_the_top() -> None:
    assert '"n_epochs": 4' in fields_of({"hyperparameters": {"n_epochs": 4}})["method"]


def test_a_method_that_is_not_offered_is_named() -> None:
    with pytest.raises(CommandError, match="reinforcement"):
        fields_of({"method": {"type": "reinforcement"}})


@pytest.mark.parametrize(
    "job", [{"method": {"type": "supervised", "supervised": "x"}}, {"hyperparameters": [1]}], ids=["method", "top"]
)
def test_hyperparameters_that_are_no_object_are_refused(job: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match="no object"):
        fields_of(job)


@pytest.mark.parametrize(
    ("method", "content", "said"),
    [
        ("supervised", "text,label\nwhere is it,card\n", "not JSONL"),
        ("supervised", '{"text": "where is it", "label": "card"}\n', "has text, label"),
        ("dpo", '{"messages": []}\n', "input, non_preferred_output, preferred_output"),
        ("supervised", "", "not JSONL"),
    ],
)
def test_rows_that_openai_does_not_train_on_are_refused(tmp_path: Path, method: str, content: str, said: str) -> None:
    file = tmp_path / "rows"
    file.write_text(content)
    with pytest.raises(CommandError, match=said) as caught:
        check_rows(file, method)
    assert f"graft train {file}" in str(caught.value)


def test_rows_of_openais_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for method, row in (
        ("supervised", {"messages": []}),
        ("supervised", {"prompt": "a", "completion": "b"}),
        ("dpo", {"input": {}, "preferred_output": [], "non_preferred_output": []}),
    ):
        file.write_text("\n" + json.dumps(row) + "\nwhatever follows is the server's to judge")
        check_rows(file, method)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"messages": []}\n{"messages": []}\n', "Name the job first"),
        ("[]", "no job of OpenAI's"),
        ('{"object": "file"}', "it is a file"),
        ("{}", "names no model"),
    ],
)
def test_what_is_no_job_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(CommandError, match=said):
        read_job(tmp_path / "job.json")
