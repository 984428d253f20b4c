"""Which strategies there are for a task on a base."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.backbones.registry import MINILM, Kind
from models.learning.contract import strategies
from models.learning.contract.errors import NoLinearLayers, UnsupportedMethod, UnsupportedStrategy


@pytest.mark.parametrize(
    ("task", "kind", "strategy"),
    [
        ("text-classification", "encoder", "few-shot"),
        ("text-generation", "decoder", "head"),
        ("text-generation", "decoder", "scratch"),
        ("object-detection", "encoder", "lora"),
        ("object-detection", "detector", "partial"),
    ],
)
def test_a_task_has_strategies_of_its_own_on_each_kind_of_base(task: str, kind: Kind, strategy: str) -> None:
    base = replace(MINILM, name="own", kind=kind)
    known = ", ".join(strategies.offered(task, base))
    with pytest.raises(UnsupportedStrategy, match=f"'{strategy}' is not one of {task} on .*'own'. Use one of: {known}"):
        strategies.check(strategy, task, base)
    for each in strategies.offered(task, base):
        strategies.check(each, task, base)


def test_low_rank_matrices_need_linear_layers() -> None:
    base = replace(MINILM, name="photos", linear=False)
    with pytest.raises(NoLinearLayers, match=r"'photos' has none\. Use auto, head, partial"):
        strategies.check("lora", "image-classification", base, linear=base.linear)
    strategies.check("partial", "image-classification", base, linear=base.linear)


def test_preferences_are_learned_between_written_answers_only() -> None:
    for task in ("text-classification", "text-regression", "object-detection"):
        with pytest.raises(UnsupportedMethod, match=f"'dpo' learns .* {task} writes none"):
            strategies.check_method("dpo", task)
        strategies.check_method("supervised", task)
    strategies.check_method("dpo", "text-generation")
