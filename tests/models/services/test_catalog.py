from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from models.errors import JobError, NotFound
from models.records.customers import Customer
from models.services import catalog, changes, claims, customers, jobs, usage
from models.services.errors import (
    AliasIsLive,
    InvalidAlias,
    ModelInUse,
    ModelNotReady,
    NoSuchAlias,
    NoSuchVersion,
    NothingBefore,
    UntrainedBaseModel,
    VersionInUse,
)
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_every_way_to_name_a_version(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    bench.succeed(acme, suffix="tickets")
    bench.succeed(acme, suffix="tickets")
    catalog.set_alias(resources, acme.id, "tickets", "canary", 1)
    for ref, number in {
        "tickets": 2,
        "ft:minilm:acme:tickets": 2,
        "tickets@1": 1,
        "tickets@2": 2,
        "ft:minilm:acme:tickets@1": 1,
        "tickets@live": 2,
        "tickets@canary": 1,
    }.items():
        resolved = catalog.resolve(resources, acme.id, ref)
        assert (resolved.number, resolved.name, resolved.full_name) == (number, "tickets", "ft:minilm:acme:tickets")
        assert (resolved.customer_id, resolved.base_model, resolved.task) == (acme.id, "minilm", "text-classification")
    for ref in (
        "ticket",
        "tickets@3",
        "tickets@0",
        "tickets@none",
        "tickets@" + "9" * 40,
        "ft:minilm:beta:tickets",
        "",
    ):
        with pytest.raises(NotFound):
            catalog.resolve(resources, acme.id, ref)
    with pytest.raises(NoSuchVersion, match="'tickets' has no version 3; it has 1, 2"):
        catalog.set_alias(resources, acme.id, "tickets", "live", 3)
    with pytest.raises(NoSuchAlias, match="'tickets' has no alias 'none'; it has canary, live"):
        catalog.delete_alias(resources, acme.id, "tickets", "none")
    with pytest.raises(UntrainedBaseModel, match="'minilm' is a base model"):
        catalog.resolve(resources, acme.id, "minilm@1")


def test_models_of_others_do_not_exist(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme, other = customer("acme"), customer("other")
    bench.succeed(acme, suffix="tickets")
    acts: list[Callable[[str], object]] = [
        lambda ref: catalog.resolve(resources, other.id, ref),
        lambda ref: catalog.get_model(resources, other.id, ref),
        lambda ref: catalog.delete_model(resources, other.id, ref),
        lambda ref: catalog.versions_page(resources, other.id, ref),
        lambda ref: catalog.aliases(resources, other.id, ref),
        lambda ref: catalog.set_alias(resources, other.id, ref, "live", 1),
    ]
    for act in acts:
        for ref in ("tickets", "ft:minilm:acme:tickets", "never"):
            with pytest.raises(NotFound) as caught:
                act(ref)
            assert str(caught.value) == f"No such model: '{ref}'."
    assert catalog.list_models(resources, other.id).data == []
    assert catalog.resolve(resources, acme.id, "tickets").number == 1


def test_a_model_in_the_making_says_so(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    job = bench.job(acme, suffix="tickets")
    for ref in ("tickets", "tickets@1", "tickets@live"):
        with pytest.raises(ModelNotReady, match=f"{job.id}' is queued") as caught:
            catalog.resolve(resources, acme.id, ref)
    assert caught.value.status == 409
    assert catalog.list_models(resources, acme.id).data == []


def test_promote_and_roll_back(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    first = bench.succeed(acme, suffix="tickets")
    bench.succeed(acme, suffix="tickets")
    [live] = catalog.aliases(resources, acme.id, "tickets")
    assert (live.name, live.number, live.previous) == ("live", 2, 1)
    before = len(changes.since(resources, 60))
    back = catalog.roll_back(resources, acme.id, "tickets", "live")
    assert (back.number, back.previous) == (1, None)
    with pytest.raises(NothingBefore, match="nothing before version 1"):
        catalog.roll_back(resources, acme.id, "tickets", "live")
    assert catalog.resolve(resources, acme.id, "tickets").number == 1
    assert len(changes.since(resources, 60)) == before + 1
    assert bench.said(first)[-1] == "Rolled back: version 1 (head) is 'live' again, after version 2."
    # Again is no change: there is no further step to go back.
    again = catalog.set_alias(resources, acme.id, "tickets", "live", 1)
    assert (again.number, again.history) == (1, [])
    assert len(changes.since(resources, 60)) == before + 1
    for number in (0, -1, 3, 10**30):
        with pytest.raises(NotFound):
            catalog.set_alias(resources, acme.id, "tickets", "live", number)
    for alias in ("3", "", "LIVE", "a@b", "x" * 65):
        with pytest.raises(InvalidAlias):
            catalog.set_alias(resources, acme.id, "tickets", alias, 1)


def test_rolling_back_goes_step_by_step(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    for _ in range(4):
        bench.succeed(acme, suffix="tickets")
    steps = [catalog.roll_back(resources, acme.id, "tickets", "live").number for _ in range(2)]
    assert steps == [3, 2]
    forward = catalog.set_alias(resources, acme.id, "tickets", "live", 4)
    assert (forward.number, forward.history) == (4, [1, 2])
    steps = [catalog.roll_back(resources, acme.id, "tickets", "live").number for _ in range(2)]
    assert steps == [2, 1]


def test_what_a_process_of_the_last_release_published_is_a_step(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    with resources.database.transaction() as session:
        # As a process from before schema 0003 does it: neither `last_number` nor `history` are known to it.
        for statement in (
            "INSERT INTO model_versions (id, number, candidate, model_id, job_id, artifact_prefix, manifest_sha256, "
            "bytes, metrics, report, created_at) SELECT 'ftckpt-old', 2, 'of the last release', model_id, job_id, "
            "artifact_prefix, manifest_sha256, bytes, metrics, report, created_at FROM model_versions",
            "UPDATE aliases SET previous = number, number = 2",
        ):
            session.execute(text(statement))
    assert catalog.resolve(resources, acme.id, "tickets").number == 2
    bench.succeed(acme, suffix="tickets")
    assert catalog.resolve(resources, acme.id, "tickets").number == 3
    steps = [catalog.roll_back(resources, acme.id, "tickets", "live").number for _ in range(2)]
    assert steps == [2, 1]


def test_deleting_a_version(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    for _ in range(3):
        bench.succeed(acme, suffix="tickets")
    with pytest.raises(VersionInUse, match="'live' points at it"):
        catalog.delete_version(resources, acme.id, "tickets", 3)
    gone = catalog.delete_version(resources, acme.id, "tickets", 2)
    assert not list(resources.store.list(gone.artifact_prefix))
    with pytest.raises(NotFound):
        catalog.resolve(resources, acme.id, "tickets@2")
    with pytest.raises(NotFound):
        catalog.delete_version(resources, customer().id, "tickets", 1)
    assert catalog.roll_back(resources, acme.id, "tickets", "live").number == 1
    catalog.delete_version(resources, acme.id, "tickets", 3)
    bench.succeed(acme, suffix="tickets")
    assert catalog.resolve(resources, acme.id, "tickets").number == 4
    # Live, then another one, then live again: without the other one that is one step, not two.
    catalog.set_alias(resources, acme.id, "tickets", "live", 1)
    catalog.set_alias(resources, acme.id, "tickets", "live", 4)
    catalog.delete_version(resources, acme.id, "tickets", 1)
    (live,) = catalog.aliases(resources, acme.id, "tickets")
    assert (live.number, live.history) == (4, [])


def test_deleting_an_alias(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    bench.succeed(acme, suffix="tickets")
    catalog.set_alias(resources, acme.id, "tickets", "canary", 1)
    with pytest.raises(NotFound):
        catalog.delete_alias(resources, customer().id, "tickets", "canary")
    catalog.delete_alias(resources, acme.id, "tickets", "canary")
    with pytest.raises(NotFound):
        catalog.resolve(resources, acme.id, "tickets@canary")
    with pytest.raises(AliasIsLive):
        catalog.delete_alias(resources, acme.id, "tickets", "live")


def test_deleting_a_model(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    done = bench.succeed(acme, suffix="tickets")
    kept = bench.succeed(acme, suffix="other")
    claim = bench.claim(bench.job(acme, suffix="tickets"))
    with pytest.raises(ModelInUse, match=claim.job.id):
        catalog.delete_model(resources, acme.id, "tickets")
    claims.fail(resources, claim, JobError("x", "x"))
    catalog.delete_model(resources, acme.id, "tickets")
    with pytest.raises(NotFound):
        catalog.resolve(resources, acme.id, "tickets")
    objects = [key for key in resources.store.list("customers/") if "/models/" in key]
    assert objects
    assert all(str(kept.model_id) in key for key in objects)
    change = changes.since(resources, 60)[-1]
    assert (change.kind, change.subject, change.name) == ("model", acme.id, "tickets")
    # What was run and billed stays on record.
    assert jobs.get(resources, acme.id, done.id).status == "succeeded"
    assert jobs.checkpoints_page(resources, acme.id, done.id).data == []
    assert len(usage.list_page(resources, acme.id, 0, 1e11).data) == 2
    # The name is free again; what was pinned to the old model's versions does not get the new one's.
    bench.succeed(acme, suffix="tickets")
    assert catalog.resolve(resources, acme.id, "tickets").number == 2
    with pytest.raises(NoSuchVersion):
        catalog.resolve(resources, acme.id, "tickets@1")
    for number in (3, 4):
        catalog.delete_model(resources, acme.id, "tickets")
        bench.succeed(acme, suffix="tickets")
        assert catalog.resolve(resources, acme.id, f"tickets@{number}").number == number
    catalog.delete_model(resources, acme.id, "tickets")
    assert customers.delete(resources, acme.id).removed["retired_models"] == 1


def test_lists(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    for name in ("one", "two", "three"):
        bench.succeed(acme, suffix=name)
    first = catalog.list_models(resources, acme.id, limit=2)
    rest = catalog.list_models(resources, acme.id, after=first.data[-1].id, limit=2)
    assert [model.name for model in (*first.data, *rest.data)] == ["three", "two", "one"]
    assert (first.has_more, rest.has_more) == (True, False)
    bench.succeed(acme, suffix="one")
    page = catalog.versions_page(resources, acme.id, "one", limit=1)
    assert [version.number for version in page.data] == [2]
    older = catalog.versions_page(resources, acme.id, "one", after=page.data[0].id)
    assert [version.number for version in older.data] == [1]
