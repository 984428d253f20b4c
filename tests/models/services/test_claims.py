from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import JobError
from models.records.customers import Customer
from models.services import catalog, changes, claims, customers, files, jobs, usage
from models.services.errors import ArtifactIncomplete, CandidateMissing, LeaseLost
from models.services.resources import Resources
from models.storage.keys import manifest_key

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_one_of_many_workers_gets_the_job(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    start = threading.Barrier(8)
    got: list[claims.Claim | None] = []

    def claim(number: int) -> None:
        start.wait()
        got.append(claims.claim_next(resources, f"worker-{number}"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [claim for claim in got if claim is not None]
    assert len(got) == 8
    assert len(winners) == 1
    now = bench.read(job)
    assert (now.status, now.attempt, now.worker) == ("running", 1, winners[0].worker)
    assert now.lease_until is not None
    assert now.started_at is not None
    assert now.lease_until - now.started_at == pytest.approx(resources.settings.lease_s, abs=0.01)


def test_warnings_of_files_settings_and_run_are_on_the_job_and_in_its_report(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    path = bench.folder / "repeated.csv"
    path.write_text("text,label\n" + "".join(f"text {row % 11},{row % 11 % 2}\n" for row in range(12)))
    file = files.create(resources, acme.id, files.NewFile(path, "repeated.csv"))
    job = bench.job(acme, training_file=file.id, strategy="head", hyperparameters={"n_epochs": 3})
    codes = [warning["code"] for warning in job.warnings]
    assert codes == ["few_rows", "near_duplicates", "no_effect"]
    claim = bench.claim(job)
    late = {"code": "of_the_run", "message": "Look at this."}
    candidate = replace(bench.candidate(), report={"warnings": [job.warnings[-1]]})
    version = claims.publish(resources, claim, candidate, promote=True)
    assert [warning["code"] for warning in version.report["warnings"]] == codes
    finished = replace(bench.finished(), report={"warnings": [job.warnings[-1], late]})
    done = claims.finish(resources, claim, finished)
    assert done.report is not None
    assert done.report["warnings"] == done.warnings == bench.read(job).warnings
    assert [warning["code"] for warning in done.warnings] == [*codes, "of_the_run"]
    assert done.warnings[1]["file"] == file.id


def test_the_same_message_five_times(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    first, *others = [claims.claim_next(resources, "worker-1") for _ in range(5)]
    assert first is not None
    assert others == [None] * 4
    claims.publish(resources, first, bench.candidate(), promote=True)
    claims.finish(resources, first, bench.finished())
    assert claims.claim_next(resources, "worker-1") is None
    assert bench.read(job).attempt == 1


def test_a_claim_brings_what_the_worker_needs(bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    training, validation = bench.file(acme), bench.file(acme)
    job = bench.job(acme, training_file=training.id, validation_file=validation.id, suffix="tickets")
    claim = bench.claim(job)
    assert claim.validation_file is not None
    assert (claim.training_file.id, claim.validation_file.id) == (training.id, validation.id)
    assert (claim.customer.name, claim.model.full_name) == ("acme", "ft:minilm:acme:tickets")
    assert list(claim.training_file.profile["labels"]) == ["card", "loan"]


def test_a_heartbeat_renews_and_reports(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(customer())
    claim = bench.claim(job)
    first = bench.read(job)
    wish = claims.heartbeat(
        resources,
        claim,
        step="fitting",
        percent=40.0,
        seconds_remaining=3.0,
        events=[("info", "metrics", "epoch 1", {"loss": 0.5}), ("warn", "message", "slow", {})],
    )
    now = bench.read(job)
    assert wish is None
    assert (now.step, now.percent, now.seconds_remaining) == ("fitting", 40.0, 3.0)
    assert now.lease_until is not None
    assert first.lease_until is not None
    assert now.lease_until > first.lease_until
    assert bench.said(job)[-2:] == ["epoch 1", "slow"]
    claims.heartbeat(resources, claim)
    later = bench.read(job)
    assert (later.step, later.seconds_remaining) == ("fitting", 3.0)
    # What was foretold of a step does not outlive it.
    claims.heartbeat(resources, claim, step="refining", percent=60.0)
    assert bench.read(job).seconds_remaining is None


def test_a_first_job_makes_a_live_version_and_is_billed_once(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    job = bench.job(acme, suffix="tickets")
    claim = bench.claim(job)
    version = claims.publish(resources, claim, bench.candidate(), promote=True)
    # Servable while the job goes on.
    assert bench.read(job).fine_tuned_model == "ft:minilm:acme:tickets"
    resolved = catalog.resolve(resources, acme.id, "tickets")
    assert (resolved.number, resolved.manifest_sha256) == (1, version.manifest_sha256)
    assert resources.store.exists(manifest_key(resolved.artifact_prefix))
    for _ in range(3):  # the answer was lost, and the worker tries again
        done = claims.finish(resources, claim, bench.finished())
    assert (done.status, done.percent, done.lease_until, done.resolved) == ("succeeded", 100.0, None, {"n_epochs": 3})
    [bill] = usage.list_page(resources, acme.id, 0, 1e11).data
    assert (bill.kind, bill.requests, bill.rows, bill.tokens, bill.seconds) == ("training", 1, 20, 200, 1.5)
    assert bench.said(job) == [
        f"Created fine-tuning job: {job.id}",
        "Training started.",
        "Version 1 (head) published, score 0.900.",
        "Version 1 (head) is live: call it as 'tickets'.",
        "The job has successfully completed.",
    ]
    assert [(row.kind, row.subject, row.name) for row in changes.since(resources, 60)] == [
        ("model", acme.id, "tickets")
    ]


@pytest.mark.parametrize(("strategy", "level"), [("lora", "warn"), ("auto", "info")])
def test_a_version_that_is_not_better_is_not_live_and_the_job_says_why(
    resources: Resources, bench: Bench, customer: MakeCustomer, strategy: str, level: str
) -> None:
    acme = customer("acme")
    job = bench.job(acme, suffix="tickets", strategy=strategy, promote="always")
    claim = bench.claim(job)
    claims.publish(resources, claim, bench.candidate("head"), promote=True)
    claims.publish(resources, claim, bench.candidate("lora", improves=False), promote=True)
    done = claims.finish(resources, claim, bench.finished("head"))
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    (event,) = [event for event in jobs.events_page(resources, acme.id, job.id).data if "not better" in event.message]
    assert (event.level, "Version 2 (lora)" in event.message) == (level, True)
    assert done.report is not None
    assert done.report["promotion"]["reason"] == event.message


def test_a_stale_attempt_writes_nothing(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    """A frozen worker wakes up after its job was given to another one."""
    job = bench.job(customer())
    stale = bench.claim(job, "frozen")
    bench.expire(job.id)
    from models.services import sweeping

    assert sweeping.reclaim_dead(resources) == [job.id]
    fresh = bench.claim(job, "fresh")
    before = bench.read(job)
    writes: list[Callable[[], object]] = [
        lambda: claims.heartbeat(resources, stale, percent=99.0),
        lambda: claims.publish(resources, stale, bench.candidate("stale"), promote=True),
        lambda: claims.finish(resources, stale, bench.finished()),
        lambda: claims.fail(resources, stale, JobError("x", "x", "user")),
        lambda: claims.release(resources, stale, to="cancelled"),
        lambda: claims.retry(resources, stale, JobError("x", "x")),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    after = bench.read(job)
    assert (after.status, after.attempt, after.percent, after.lease_until) == ("running", 2, 0.0, before.lease_until)
    assert [key for key in resources.store.list("customers/") if "/models/" in key] == []
    claims.publish(resources, fresh, bench.candidate(), promote=True)
    assert claims.finish(resources, fresh, bench.finished()).status == "succeeded"
    with pytest.raises(LeaseLost):
        claims.finish(resources, stale, bench.finished())


def test_a_lease_that_ran_out_is_gone_before_anybody_takes_it(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    claim = bench.claim(bench.job(customer()))
    bench.expire(claim.job.id)
    with pytest.raises(LeaseLost):
        claims.heartbeat(resources, claim)


def test_a_candidate_is_published_once_over_all_attempts(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    first = claims.publish(resources, bench.claim(job, "first"), bench.candidate(), promote=True)
    bench.expire(job.id)
    from models.services import sweeping

    sweeping.reclaim_dead(resources)
    claim = bench.claim(job, "second")
    for _ in range(2):
        again = claims.publish(resources, claim, bench.candidate(content="other weights"), promote=True)
        assert (again.id, again.number, again.artifact_prefix) == (first.id, 1, first.artifact_prefix)
    assert claims.publish(resources, claim, bench.candidate("lora"), promote=True).number == 2
    claims.finish(resources, claim, bench.finished("lora"))
    page = jobs.checkpoints_page(resources, job.customer_id, job.id)
    assert [version.candidate for version in page.data] == ["lora", "head"]
    stored = {key.split("/")[5] for key in resources.store.list("customers/") if "/models/" in key}
    assert stored == {"1", "2"}
    assert sweeping.delete_orphans(resources) == 0


def test_many_publish_the_same_candidate_at_once(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    claim = bench.claim(bench.job(customer()))
    candidates = [bench.candidate() for _ in range(4)]
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: ids.append(claims.publish(resources, claim, one, promote=True).id))
        for one in candidates
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1
    version = jobs.checkpoints_page(resources, claim.job.customer_id, claim.job.id).data[0]
    assert resources.store.exists(manifest_key(version.artifact_prefix))


def test_a_published_version_whose_files_are_gone_is_made_good(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    job = bench.job(customer())
    first = claims.publish(resources, bench.claim(job, "first"), bench.candidate(), promote=True)
    resources.store.delete_prefix(first.artifact_prefix)
    bench.expire(job.id)
    from models.services import sweeping

    sweeping.reclaim_dead(resources)
    again = claims.publish(resources, bench.claim(job, "second"), bench.candidate(content="new"), promote=True)
    assert (again.id, again.number) == (first.id, 1)
    resolved = catalog.resolve(resources, job.customer_id, job.suffix)
    assert resources.store.get_bytes(manifest_key(resolved.artifact_prefix)) == b'{"content": "new"}'


def test_an_incomplete_artifact_is_refused(
    resources: Resources, bench: Bench, customer: MakeCustomer, tmp_path: Path
) -> None:
    claim = bench.claim(bench.job(customer()))
    bare = bench.candidate()
    (bare.artifact_dir / "manifest.json").unlink()
    linked = bench.candidate()
    (linked.artifact_dir / "secrets").symlink_to(tmp_path)
    for candidate in (bare, linked, bench.candidate("../escape")):
        with pytest.raises(ArtifactIncomplete):
            claims.publish(resources, claim, candidate, promote=True)
    with pytest.raises(CandidateMissing):
        claims.finish(resources, claim, bench.finished())
    assert bench.read(claim.job).status == "running"


def test_a_new_job_replaces_the_live_version_at_its_end_only(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    claim = bench.claim(bench.job(acme, suffix="tickets"))
    claims.publish(resources, claim, bench.candidate("head"), promote=True)
    claims.publish(resources, claim, bench.candidate("lora"), promote=True)
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    claims.finish(resources, claim, bench.finished("lora"))
    assert catalog.resolve(resources, acme.id, "tickets").number == 3
    [live] = catalog.aliases(resources, acme.id, "tickets")
    assert (live.number, live.previous) == (3, 1)


def test_a_run_below_its_baseline_does_not_replace_a_version_that_serves(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    job = bench.succeed(acme, score=0.4, suffix="tickets")
    assert job.status == "succeeded"
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    assert "below the 0.500 of always giving the most frequent answer" in " ".join(bench.said(job))


def test_a_refinement_replaces_the_first_version_of_its_own_job_if_it_improves(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme, suffix="tickets"))
    live = []
    for candidate in (bench.candidate("head"), bench.candidate("lora"), bench.candidate("full", improves=False)):
        claims.publish(resources, claim, candidate, promote=True)
        live.append(catalog.resolve(resources, acme.id, "tickets").number)
    assert live == [1, 2, 2]
    claims.finish(resources, claim, bench.finished("head"))
    assert catalog.resolve(resources, acme.id, "tickets").number == 1


def test_a_deleted_customer_takes_the_lease_along(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    claim = bench.claim(bench.job(acme))
    customers.delete(resources, acme.id)
    for write in (
        lambda: claims.heartbeat(resources, claim),
        lambda: claims.publish(resources, claim, bench.candidate(), promote=True),
        lambda: claims.finish(resources, claim, bench.finished()),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert list(resources.store.list("customers/")) == []
