"""Jobs of OpenAI's, carried over."""

from __future__ import annotations

import json

import pytest

from deploy.cli.errors import CommandError
from deploy.cli.openai_import import fields_of


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
