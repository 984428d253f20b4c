"""What the rows that cross-validation holds out are worth to the head that is published."""

from __future__ import annotations

import math
from typing import Any

import pytest

from models.backbones.text import TextBackbone
from models.learning.contract.events import Finished
from models.learning.heads import learning_curve
from models.learning.training import train

Rows = list[tuple[str, str]]


def _curve(backbone: TextBackbone, request: Any) -> dict[str, Any]:
    finished = list(train(request, backbone, stop=lambda: False))[-1]
    assert isinstance(finished, Finished)
    found: dict[str, Any] = finished.report.get("learning_curve", {})
    return found


def test_half_of_the_rows_score_less(backbone: TextBackbone, tickets: Rows, make_request: Any) -> None:
    rows = tickets[::2]
    curve = _curve(backbone, make_request(rows, strategy="head"))
    half, most = curve["rows"]
    assert half == pytest.approx(most / 2, abs=1)
    assert most == pytest.approx(0.8 * len(rows), abs=2)
    assert curve["scores"][0] <= curve["scores"][1]
    expected = (curve["scores"][1] - curve["scores"][0]) * math.log2(len(rows) / most) / math.log2(most / half)
    assert curve["expected_gain"] == pytest.approx(max(expected, 0.0))
    assert curve["expected_gain"] < 0.05


def test_a_file_that_holds_rows_out_needs_no_curve(backbone: TextBackbone, few: Rows, make_request: Any) -> None:
    assert not _curve(backbone, make_request(few[::2], strategy="head", validation=few[1::2]))


def test_a_sentence_says_what_more_rows_are_worth() -> None:
    growing = learning_curve.describe([308, 616], [0.84, 0.87], 770, 0.0097)["sentence"]
    assert growing == (
        "Frozen features score 0.870 on 616 rows and 0.840 on 308: "
        "a head on all 770 is about 0.010 better than its held-out score."
    )
    assert learning_curve.describe([308, 616], [0.87, 0.87], 770, 0.0)["sentence"].endswith("add little.")
