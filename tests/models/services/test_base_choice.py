"""Jobs that leave their base open: what they say before and after the choice, and what another job may decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.backbones import base_models_file
from models.backbones.errors import BaseModelRetired, NoBaseModel
from models.learning.contract.base_choice import PROBE, BaseProbe
from models.learning.contract.errors import NoLinearLayers
from models.learning.contract.events import BaseChosen
from models.learning.contract.outcomes import Outcome
from models.records import versions
from models.records.customers import Customer
from models.services import base_candidates, base_choice, catalog, claims, priors
from models.services.errors import BaseSettled, InvalidHyperparameter
from models.services.resources import Resources
from tests.models.backbones import text_checkpoints

from .conftest import Bench

MakeCustomer = Callable[..., Customer]

_OUTCOME = Outcome(
    base_revision="1", task="text-classification", rows=20, classes=2, rows_per_class=10.0, separability=0.0,
    head_score=0.9, depth_scores=(), candidate=PROBE, probability=0.02, base="tiny",
)  # fmt: skip
_CHOSEN = BaseChosen(
    base="minilm",
    reason="It answers best.",
    metric="accuracy",
    rows=20,
    probes=(BaseProbe("tiny", score=0.5), BaseProbe("minilm", score=0.9)),
    reference="minilm",
    outcomes=(_OUTCOME,),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tiny")
    text_checkpoints.write(folder)
    return folder


@pytest.fixture
def two_bases(resources: Resources, checkpoint: Path) -> None:
    """`tiny` beside `minilm`, as the operator adds it."""
    with base_models_file.changing(resources.settings) as entries:
        entries["tiny"] = {"modality": "text", "source": {"folder": str(checkpoint)}, "licence": "MIT"}


@pytest.mark.usefixtures("two_bases")
def test_a_job_is_open_until_its_run_has_chosen(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    job = bench.job(acme, model="auto", suffix="tickets")
    assert (job.base_model, job.base_choice) == ("auto", {"asked": "auto"})
    assert base_candidates.names_of_candidates(resources.settings, job) == ("tiny", "minilm")
    claim = bench.claim(job)
    claim = base_choice.keep(resources, claim, _CHOSEN)
    for _ in range(2):  # the answer was lost, and it is said again
        claim = base_choice.keep(resources, claim, _CHOSEN)
    now = bench.read(job)
    assert now.base_model == "minilm"
    assert now.base_choice is not None
    assert [probe["base"] for probe in now.base_choice["probes"]] == ["tiny", "minilm"]
    assert bench.said(job).count("The base model is minilm. It answers best.") == 1
    claims.publish(resources, claim, bench.candidate(), promote=True)
    done = claims.finish(resources, claim, bench.finished())
    assert done.fine_tuned_model == "ft:minilm:acme:tickets"
    assert catalog.resolve(resources, acme.id, "tickets").base_model == "minilm"
    # What the probes measured is there once, for later jobs.
    later = bench.job(acme, model="auto", suffix="others")
    assert priors.fetch(resources, later, ("tiny", "minilm")) == (_OUTCOME,)


@pytest.mark.usefixtures("two_bases")
def test_a_model_keeps_its_base(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    bench.succeed(acme, model="minilm", suffix="tickets")
    again = bench.job(acme, model="auto", suffix="tickets")
    assert again.base_model == "minilm"
    assert again.base_choice is not None
    assert "has versions on it" in again.base_choice["reason"]
    with base_models_file.changing(resources.settings) as entries:
        entries["minilm"] = {"retired": True}
    with pytest.raises(BaseModelRetired):
        bench.job(acme, model="auto", suffix="tickets")
    assert bench.job(acme, model="auto", suffix="others").base_model == "tiny"


@pytest.mark.usefixtures("two_bases")
def test_of_two_jobs_at_once_the_first_decides(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    first, second, third = (bench.job(acme, model="auto", suffix="tickets") for _ in range(3))
    one, two = bench.claim(first, "worker-1"), bench.claim(second, "worker-2")
    base_choice.keep(resources, one, BaseChosen(base="tiny", reason="It answers best."))
    with pytest.raises(BaseSettled, match="'tiny'"):
        base_choice.keep(resources, two, _CHOSEN)
    assert bench.read(second).base_model == "auto"
    assert bench.claim(third, "worker-3").job.base_model == "tiny"
    with resources.database.reading() as session:
        assert versions.require_model(session, acme.id, "tickets").full_name == "ft:tiny:acme:tickets"


@pytest.mark.usefixtures("two_bases")
def test_a_base_of_a_hub_is_left_to_the_worker(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    """The machine that takes jobs downloads none: before, it settled every job on the bases that it had itself."""
    with base_models_file.changing(resources.settings) as entries:
        del entries["tiny"]
        entries["far"] = {
            "modality": "text", "source": {"hub": "somebody/far", "revision": "a" * 40}, "licence": "MIT",
            "width": 8, "blocks": 2, "max_tokens": 64,
        }  # fmt: skip
    job = bench.job(customer("acme"), model="auto")
    assert job.base_model == "auto"
    # Here it is not downloaded, so a worker on this machine would have one base to choose from.
    assert base_candidates.names_of_candidates(resources.settings, job) == ("minilm",)


def test_the_only_base_is_taken_at_once(bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer("acme"), model="auto")
    assert job.base_model == "minilm"
    assert job.base_choice is not None
    assert "only base installed" in job.base_choice["reason"]


@pytest.mark.usefixtures("two_bases")
def test_bases_that_cannot_do_what_is_asked_are_no_candidates(resources: Resources) -> None:
    settings = resources.settings

    def names(task: str, strategy: str, **hyperparameters: int) -> list[str]:
        return [entry.name for entry in base_candidates.list_candidates(settings, task, strategy, hyperparameters)]

    assert names("text-classification", "partial", trainable_blocks=5) == ["minilm"]  # tiny has three
    with pytest.raises(InvalidHyperparameter):
        names("text-classification", "partial", trainable_blocks=50)
    with pytest.raises(NoLinearLayers):
        names("image-classification", "lora")
    with pytest.raises(NoBaseModel):
        names("audio-classification", "auto")
    assert names("text-generation", "auto") == ["smollm2"]
