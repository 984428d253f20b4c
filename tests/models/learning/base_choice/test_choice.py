"""The choice of a base: by a probe, seeded, with what is said of it, and shortened by earlier ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from models.backbones import loading
from models.backbones.errors import BaseModelUnreachable
from models.learning import training
from models.learning.base_choice import choice
from models.learning.contract import events
from models.learning.contract.errors import Stopped
from models.learning.contract.events import BaseChosen, Finished, Progress
from models.learning.contract.outcomes import Outcome
from tests.models.backbones import media_checkpoints
from tests.models.datasets import media_files
from tests.models.learning import generated


class _Bases:
    """Loaded bases by name, and which were asked for."""

    def __init__(self, **bases) -> None:
        self.bases, self.asked = bases, []

    def __call__(self, name: str):
        self.asked.append(name)
        found = self.bases[name]
        if isinstance(found, Exception):
            raise found
        return found


def _choose(request, bases) -> tuple[BaseChosen, list[Progress]]:
    *said, chosen = choice.choose(request, bases, stop=lambda: False)
    assert isinstance(chosen, BaseChosen)
    return chosen, said


@pytest.fixture
def three(few) -> list[tuple[str, str]]:
    """The rows of three classes."""
    labels = sorted({label for _, label in few})[:3]
    return [(text, label) for text, label in few if label in labels]


@pytest.fixture
def bases(backbone, small_backbone) -> _Bases:
    return _Bases(minilm=backbone, tiny=small_backbone)


def test_a_probe_that_takes_long_goes_on_saying_that_it_is_at_work(three, make_request, bases):
    """Before, a slow base was silent for as long as a thousand rows take, and its trainer was killed."""
    request = make_request(three, base_model="auto", base_candidates=("tiny", "minilm"))
    *said, _ = choice.choose(request, bases, stop=lambda: False, every_s=0.001)
    assert len([event for event in said if event.message == ""]) >= 2
    assert {(event.step, event.percent) for event in said} == {("probing", 0.0)}


def test_the_base_that_knows_the_texts_is_chosen_and_all_is_said(three, make_request, bases):
    request = make_request(three, base_model="auto", base_candidates=("tiny", "minilm"))
    chosen, said = _choose(request, bases)
    assert chosen.base == "minilm"
    tiny, minilm = chosen.probes
    assert minilm.score > tiny.score + 0.2
    assert minilm.score_low <= minilm.score <= minilm.score_high
    assert minilm.ms_per_row > 0
    assert (chosen.metric, chosen.rows) == ("accuracy", len(three))
    assert "minilm" in chosen.reason
    assert "tiny" in chosen.reason
    assert [event.message for event in said] == ["Probing the base tiny", "Probing the base minilm"]
    assert {event.step for event in said} == {"probing"}
    again, _ = _choose(request, bases)
    assert [probe.score for probe in again.probes] == [probe.score for probe in chosen.probes]
    # It reaches the worker as it is, and the report as it is told.
    assert events.from_dict(json.loads(json.dumps(events.to_dict(chosen)))) == chosen
    described = chosen.describe()
    assert (described["asked"], described["chosen"]) == ("auto", "minilm")
    assert described["probes"][1]["score"] == minilm.score


def test_of_equal_bases_the_cheaper_is_taken(three, make_request, backbone):
    request = make_request(three, base_model="auto", base_candidates=("cheap", "dear"))
    chosen, _ = _choose(request, _Bases(cheap=backbone, dear=backbone))
    assert chosen.base == "cheap"


def test_one_base_is_taken_without_being_loaded(three, make_request, bases):
    chosen, said = _choose(make_request(three, base_model="auto", base_candidates=("minilm",)), bases)
    assert (chosen.base, said, bases.asked) == ("minilm", [], [])
    assert "only base installed" in chosen.reason


def test_earlier_jobs_save_a_probe_where_they_were_alike(three, make_request, bases):
    request = make_request(three, base_model="auto", base_candidates=("minilm", "tiny"))
    chosen, _ = _choose(request, bases)
    (outcome,) = chosen.outcomes
    assert (outcome.base, outcome.probability < 0.1, chosen.reference) == ("tiny", True, "minilm")
    stored = Outcome.from_dict(json.loads(json.dumps(events.to_dict(chosen)))["outcomes"][0])
    bases.asked.clear()
    shorter, _ = _choose(replace(request, priors=(stored,) * 3), bases)
    assert (shorter.base, bases.asked) == ("minilm", ["minilm"])
    assert "lost to minilm in jobs like this" in shorter.probes[1].note
    # A job on which the first base does far worse is another situation.
    bases.asked.clear()
    unlike = replace(stored, head_score=stored.head_score - 0.5)
    _choose(replace(request, priors=(unlike,) * 3), bases)
    assert bases.asked == ["minilm", "tiny"]


@pytest.mark.slow
def test_a_base_that_cannot_be_loaded_is_passed_over_and_said(three, make_request, backbone):
    broken = BaseModelUnreachable(name="broken", source="nowhere", reason="it is gone", mend="Bring it back.")
    request = make_request(three, base_model="auto", base_candidates=("broken", "minilm"))
    chosen, _ = _choose(request, _Bases(broken=broken, minilm=backbone))
    assert chosen.base == "minilm"
    assert "it is gone" in chosen.probes[1].note
    with pytest.raises(BaseModelUnreachable):
        _choose(replace(request, base_candidates=("broken", "broken")), _Bases(broken=broken))


def test_a_stop_is_heard(three, make_request, bases):
    request = make_request(three, base_model="auto", base_candidates=("tiny", "minilm"))
    with pytest.raises(Stopped):
        list(choice.choose(request, bases, stop=lambda: True))


@pytest.mark.slow
def test_words_and_pictures_are_probed_too(make_request, tmp_path, backbone, small_backbone):
    from models.learning.contract.request import DatasetSource

    path = tmp_path / "places.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in generated.places(40, seed=1)))
    source = DatasetSource(path, "jsonl", {"text": "text", "spans": "spans"})
    request = replace(
        make_request([("a", "x"), ("b", "y")]),
        training=source,
        task="token-classification",
        base_candidates=("tiny", "minilm"),
    )
    # The places are found by their capitals, which every base is told of: either may be taken.
    chosen, _ = _choose(request, _Bases(minilm=backbone, tiny=small_backbone))
    assert chosen.metric == "entity_f1"
    assert all(probe.score is not None and probe.score > 0.5 for probe in chosen.probes)

    archive = tmp_path / "stripes.zip"
    pictures = {
        f"{label}/{seed}.png": media_files.stripes(label, seed) for label in ("wide", "narrow") for seed in range(6)
    }
    archive.write_bytes(media_files.archive(pictures))
    entries = [media_checkpoints.write(tmp_path / name, name) for name in ("resnet", "vit")]
    loaded = {entry.name: loading.load(entry, device="cpu", precision="fp32", threads=1) for entry in entries}
    request = replace(
        request,
        training=DatasetSource(archive, "zip", {"image": "image", "label": "label"}),
        task="image-classification",
        base_candidates=tuple(loaded),
    )
    chosen, _ = _choose(request, _Bases(**loaded))
    assert [probe.base for probe in chosen.probes] == ["resnet", "vit"]
    assert all(probe.score is not None for probe in chosen.probes)


def test_the_report_of_the_run_states_the_choice(three, make_request, small_backbone):
    stated = {"asked": "auto", "chosen": "tiny", "reason": "It is the only base."}
    request = make_request(three, strategy="zero-shot", base_model="tiny", base_choice=stated)
    *_, finished = training.train(request, small_backbone, stop=lambda: False)
    assert isinstance(finished, Finished)
    assert finished.report["base_choice"] == stated
