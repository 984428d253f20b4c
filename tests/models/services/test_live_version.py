"""What a job's end does to the version that is live."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.errors import InvalidRequest
from models.learning.contract.comparison import LiveComparison
from models.records.customers import Customer
from models.records.jobs import Job
from models.services import catalog, claims, files
from models.services.errors import ModelNotReady
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]

WORSE = LiveComparison(live=1, metric="accuracy", rows=100, score=0.7, live_score=0.9, gain=-0.2, probability=0.0)
BETTER = LiveComparison(live=1, metric="accuracy", rows=100, score=0.9, live_score=0.7, gain=0.2, probability=1.0)


def _succeed(
    bench: Bench, acme: Customer, comparison: LiveComparison | None, *, promote: str | None = None, score: float = 0.9
) -> Job:
    claim = bench.claim(bench.job(acme, suffix="tickets", promote=promote))
    claims.publish(bench.resources, claim, bench.candidate("head", score=score), promote=True)
    return claims.finish(bench.resources, claim, bench.finished("head", comparison))


def test_a_worse_version_does_not_go_live_and_an_event_says_why(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    bench.succeed(acme, suffix="tickets")
    job = _succeed(bench, acme, WORSE)
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    assert (job.status, job.fine_tuned_model) == ("succeeded", "ft:minilm:acme:tickets@2")
    (why,) = [text for text in bench.said(job) if "stays live" in text]
    assert "version 2 has accuracy 0.700 and version 1 0.900" in why
    assert job.report is not None
    promotion = job.report["promotion"]
    assert (promotion["promoted"], promotion["rule"], promotion["live_version"]) == (False, "auto", 1)
    assert (promotion["reason"], promotion["comparison"]["gain"]) == (why, -0.2)
    better = _succeed(bench, acme, BETTER)
    assert catalog.resolve(resources, acme.id, "tickets").number == 3
    assert better.fine_tuned_model == "ft:minilm:acme:tickets"


def test_the_claim_names_what_to_compare_with(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    first = bench.claim(bench.job(acme, suffix="tickets"))
    assert first.live is None
    claims.publish(resources, first, bench.candidate(), promote=True)
    # A version of the job itself is not compared with, in a later attempt either.
    claims.release(resources, first, to="queued")
    assert bench.claim(first.job, "worker-2").live is None
    for promote, compared in (("auto", True), ("always", False), ("never", False), (None, True)):
        claim = bench.claim(bench.job(acme, suffix="tickets", promote=promote))
        assert (claim.live is not None) is compared
        if claim.live is not None:
            assert claim.live.number == 1


def test_a_version_that_went_live_meanwhile_stays(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    one, two = (bench.claim(bench.job(acme, suffix="tickets")) for _ in range(2))
    for claim in (one, two):
        claims.publish(resources, claim, bench.candidate("head"), promote=True)
    claims.finish(resources, one, bench.finished())
    job = claims.finish(resources, two, bench.finished())
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    assert "went live while the job ran" in " ".join(bench.said(job))


def test_a_first_version_below_the_majority_is_there_and_not_live(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    job = _succeed(bench, acme, None, score=0.4)
    with pytest.raises(ModelNotReady, match="'tickets@1'"):
        catalog.resolve(resources, acme.id, "tickets")
    assert job.fine_tuned_model == "ft:minilm:acme:tickets@1"
    assert catalog.resolve(resources, acme.id, str(job.fine_tuned_model)).number == 1
    catalog.set_alias(resources, acme.id, "tickets", "live", 1)
    assert catalog.resolve(resources, acme.id, "tickets").number == 1


def test_a_regression_is_compared_with_the_mean(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    path = bench.folder / "prices.csv"
    path.write_text("text,value\n" + "".join(f"text number {row},{row / 2}\n" for row in range(12)))
    file = files.create(resources, acme.id, files.NewFile(path, "prices.csv"))
    claim = bench.claim(bench.job(acme, training_file=file.id))
    candidate = bench.candidate("head", score=-0.76, baseline=0.0)
    claims.publish(resources, claim, candidate, promote=True)
    job = claims.finish(resources, claim, bench.finished("head"))
    said = " ".join(bench.said(job))
    assert "scores -0.760, below the 0.000 of always giving the mean of the training rows' values" in said


def test_a_refinement_that_beats_the_majority_goes_live(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    claim = bench.claim(bench.job(acme, suffix="tickets"))
    claims.publish(resources, claim, bench.candidate("head", score=0.4), promote=True)
    assert bench.read(claim.job).fine_tuned_model == "ft:minilm:acme:tickets@1"
    claims.publish(resources, claim, bench.candidate("lora", score=0.8), promote=True)
    assert bench.read(claim.job).fine_tuned_model == "ft:minilm:acme:tickets"
    claims.finish(resources, claim, bench.finished("lora"))
    assert catalog.resolve(resources, acme.id, "tickets").number == 2


def test_the_jobs_rule_comes_before_the_models(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    job = _succeed(bench, acme, None, promote="never")
    assert job.fine_tuned_model == "ft:minilm:acme:tickets@1"
    with pytest.raises(ModelNotReady):
        catalog.resolve(resources, acme.id, "tickets")
    _succeed(bench, acme, None)
    assert catalog.resolve(resources, acme.id, "tickets").number == 2
    catalog.set_promotion(resources, acme.id, "tickets", "never")
    kept = _succeed(bench, acme, BETTER)
    assert any("version 3 waits to be promoted by hand. Version 2 stays live." in text for text in bench.said(kept))
    assert catalog.resolve(resources, acme.id, "tickets").number == 2
    _succeed(bench, acme, WORSE, promote="always", score=0.1)
    assert catalog.resolve(resources, acme.id, "tickets").number == 4
    with pytest.raises(InvalidRequest, match="auto, always, never"):
        catalog.set_promotion(resources, acme.id, "tickets", "sometimes")
    with pytest.raises(InvalidRequest, match="auto, always, never"):
        bench.job(acme, promote="sometimes")
