from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.backbones import base_models_file
from models.backbones.errors import BaseModelRetired
from models.errors import InvalidRequest, JobError, NotFound
from models.learning.contract.errors import UnsupportedMethod, UnsupportedStrategy
from models.records.customers import Customer
from models.services import claims, files, jobs
from models.services.errors import (
    InvalidHyperparameter,
    InvalidMetadata,
    InvalidName,
    InvalidSeed,
    ModelMismatch,
    NameTaken,
    RateQuotaExceeded,
    UnknownHyperparameter,
    UnknownLabels,
    UnknownStrategy,
    UnusableFile,
)
from models.services.files import NewFile
from models.services.jobs import JobFilter, JobRequest
from models.services.resources import Resources

from .conftest import Bench

MakeCustomer = Callable[..., Customer]


def test_a_submitted_job_is_queued_and_sent(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer("acme")
    job = bench.job(acme, training_file=bench.file(acme, "My Tickets (2024).csv").id, metadata={"team": "support"})
    now = bench.read(job)
    assert (now.status, now.suffix, now.task, now.base_model) == (
        "queued",
        "my-tickets-2024",
        "text-classification",
        "minilm",
    )
    assert now.strategy == "auto"
    assert set(now.hyperparameters.values()) == {"auto"}
    assert 0 <= now.seed < 2**31
    assert now.sent_at is not None
    assert now.fine_tuned_model is None
    assert bench.messages() == 1


def test_a_retired_base_takes_no_jobs_and_those_that_wait_are_kept(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme = customer("acme")
    waiting = bench.job(acme)
    with base_models_file.changing(resources.settings) as entries:
        entries["minilm"] = {"retired": True}
    for asked in (None, "minilm"):
        with pytest.raises(BaseModelRetired, match="'minilm' is retired"):
            bench.job(acme, training_file=waiting.training_file_id, model=asked)
    assert bench.claim(waiting).job.base_model == "minilm"


def test_what_is_set_is_kept(bench: Bench, customer: MakeCustomer) -> None:
    job = bench.job(
        customer(),
        suffix="tickets",
        strategy="lora",
        seed=7,
        hyperparameters={
            "n_epochs": 3,
            "learning_rate": 1e-4,
            "batch_size": "auto",
            "features": "last:mean",
            "lexical": False,
        },
    )
    assert (job.strategy, job.seed, job.suffix) == ("lora", 7, "tickets")
    chosen = {name: value for name, value in job.hyperparameters.items() if value != "auto"}
    assert chosen == {"n_epochs": 3, "learning_rate": 1e-4, "features": "last:mean", "lexical": False}


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"strategy": "lorra"}, UnknownStrategy, "Did you mean 'lora'"),
        ({"strategy": "few-shot"}, UnsupportedStrategy, "Use one of: auto, zero-shot, head, lora, partial, full, scra"),
        ({"strategy": "few-shot", "model": "minilm"}, UnsupportedStrategy, "not one of text-classification on"),
        ({"hyperparameters": {"method": "dpo", "beta": 0.3}}, UnsupportedMethod, "text-classification writes none"),
        ({"hyperparameters": {"n_epoch": 3}}, UnknownHyperparameter, "Did you mean 'n_epochs'"),
        ({"hyperparameters": {"n_epochs": 0}}, InvalidHyperparameter, "whole number from 1"),
        ({"hyperparameters": {"n_epochs": 2.5}}, InvalidHyperparameter, "whole number"),
        ({"hyperparameters": {"n_epochs": True}}, InvalidHyperparameter, "True"),
        ({"hyperparameters": {"n_epochs": "many"}}, InvalidHyperparameter, "many"),
        ({"hyperparameters": {"learning_rate": 0}}, InvalidHyperparameter, "above 0"),
        ({"hyperparameters": {"learning_rate": float("nan")}}, InvalidHyperparameter, "nan"),
        ({"hyperparameters": {"trainable_blocks": 7}}, InvalidHyperparameter, "up to 6"),
        ({"hyperparameters": {"trainable_blocks": 0}}, InvalidHyperparameter, "from 1"),
        ({"hyperparameters": {"lexical": "often"}}, InvalidHyperparameter, "true or false"),
        ({"seed": -1}, InvalidSeed, "-1"),
        ({"seed": 2**31}, InvalidSeed, "2147483648"),
        ({"suffix": "My Tickets"}, InvalidName, "lower-case"),
        ({"suffix": ""}, InvalidName, "lower-case"),
        ({"suffix": "minilm"}, NameTaken, "base model"),
        ({"model": "minilmm"}, InvalidRequest, "minilm"),
        ({"task": "multi-label-classification"}, InvalidRequest, "Upload it again"),
        ({"metadata": {str(n): "" for n in range(17)}}, InvalidMetadata, "17 pairs"),
        ({"metadata": {"k" * 65: ""}}, InvalidMetadata, "too long"),
        ({"metadata": {"k": "v" * 513}}, InvalidMetadata, "too long"),
        ({"metadata": {"k": 3}}, InvalidMetadata, "not a text"),
    ],
)
def test_what_is_wrong_is_named(
    bench: Bench, customer: MakeCustomer, values: dict[str, object], error: type[InvalidRequest], says: str
) -> None:
    acme = customer()
    with pytest.raises(error, match=says):
        bench.job(acme, **values)
    assert jobs.list_page(bench.resources, acme.id).data == []
    assert bench.messages() == 0


def test_files_of_others_do_not_exist(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    mine, theirs = customer(), customer()
    file, foreign = bench.file(mine), bench.file(theirs)
    with pytest.raises(NotFound) as caught:
        bench.job(mine, training_file=foreign.id)
    assert caught.value.as_dict()["param"] == "training_file"
    with pytest.raises(NotFound) as caught:
        bench.job(mine, training_file=file.id, validation_file=foreign.id)
    assert caught.value.as_dict()["param"] == "validation_file"


def test_jobs_of_others_do_not_exist(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    mine, theirs = customer(), customer()
    job = bench.job(theirs)
    acts: list[Callable[[str], object]] = [
        lambda id_: jobs.get(resources, mine.id, id_),
        lambda id_: jobs.cancel(resources, mine.id, id_),
        lambda id_: jobs.pause(resources, mine.id, id_),
        lambda id_: jobs.resume(resources, mine.id, id_),
        lambda id_: jobs.events_page(resources, mine.id, id_),
        lambda id_: jobs.events_since(resources, mine.id, id_, 0),
        lambda id_: jobs.checkpoints_page(resources, mine.id, id_),
        lambda id_: jobs.list_page(resources, mine.id, after=id_),
    ]
    for act in acts:
        with pytest.raises(NotFound) as foreign:
            act(job.id)
        with pytest.raises(NotFound) as unknown:
            act("ftjob-never")
        assert str(foreign.value).replace(job.id, "X") == str(unknown.value).replace("ftjob-never", "X")
    assert bench.read(job).status == "queued"
    assert jobs.list_page(resources, mine.id).data == []


def test_validation_labels_must_be_known(bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    training, fewer = bench.file(acme, labels=("a", "b", "c")), bench.file(acme, labels=("a", "b"))
    assert bench.job(acme, training_file=training.id, validation_file=fewer.id).validation_file_id == fewer.id
    with pytest.raises(UnknownLabels, match="'c'"):
        bench.job(acme, training_file=fewer.id, validation_file=training.id)


def test_a_name_belongs_to_one_base_and_task(
    resources: Resources, bench: Bench, customer: MakeCustomer, tmp_path: Path
) -> None:
    from models.services import files

    acme = customer()
    path = tmp_path / "multi.jsonl"
    rows = [f'{{"text": "text {n}", "labels": ["a", "b"]}}\n{{"text": "other {n}", "labels": ["a"]}}' for n in range(5)]
    path.write_text("\n".join(rows))
    multi = files.create(resources, acme.id, files.NewFile(path, "multi.jsonl"))
    single = bench.file(acme)
    claim = bench.claim(bench.job(acme, training_file=single.id, suffix="tickets"))
    with pytest.raises(ModelMismatch, match="text-classification"):
        bench.job(acme, training_file=multi.id, suffix="tickets")
    # A model that came to nothing binds nobody.
    claims.fail(resources, claim, JobError("x", "x"))
    job = bench.job(acme, training_file=multi.id, suffix="tickets")
    assert bench.claim(job).model.task == "multi-label-classification"


def test_two_customers_may_use_the_same_name(bench: Bench, customer: MakeCustomer) -> None:
    first, second = bench.job(customer(), suffix="tickets"), bench.job(customer(), suffix="tickets")
    assert first.model_id != second.model_id


def test_unfinished_jobs_are_limited(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    few = replace(resources, settings=resources.settings.model_copy(update={"max_unfinished_jobs": 3}))
    acme, other = customer(), customer()
    file = bench.file(acme)
    results: list[object] = []

    def submit() -> None:
        try:
            results.append(jobs.submit(few, acme.id, JobRequest(training_file=file.id)))
        except RateQuotaExceeded as error:
            results.append(error)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [result for result in results if isinstance(result, RateQuotaExceeded)]
    assert len(results) == 6
    assert len(refused) == 3
    assert refused[0].retry_after_s > 0
    jobs.submit(few, other.id, JobRequest(training_file=bench.file(other).id))
    jobs.cancel(few, acme.id, jobs.list_page(few, acme.id).data[0].id)
    jobs.submit(few, acme.id, JobRequest(training_file=file.id))


def test_lists_pages_and_filters(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    acme = customer()
    file = bench.file(acme)
    key = 'it\'s a "key" $.x'
    made = [bench.job(acme, training_file=file.id, metadata={"n": str(n % 2), key: "yes"}).id for n in range(5)]
    bench.job(customer())
    first = jobs.list_page(resources, acme.id, limit=2)
    second = jobs.list_page(resources, acme.id, after=first.data[-1].id, limit=2)
    third = jobs.list_page(resources, acme.id, after=second.data[-1].id, limit=2)
    assert [page.has_more for page in (first, second, third)] == [True, True, False]
    assert [job.id for page in (first, second, third) for job in page.data] == sorted(
        made, key=lambda id_: (bench.resources and jobs.get(resources, acme.id, id_).created_at, id_), reverse=True
    )
    ones = jobs.list_page(resources, acme.id, only=JobFilter(metadata={"n": "1", key: "yes"}))
    assert {job.id for job in ones.data} == {made[1], made[3]}
    assert jobs.list_page(resources, acme.id, only=JobFilter(metadata={key: "no"})).data == []
    assert jobs.list_page(resources, acme.id, only=JobFilter(metadata={"absent": "1"})).data == []


def test_a_page_follows_a_job_that_has_left_the_filter(
    resources: Resources, bench: Bench, customer: MakeCustomer
) -> None:
    acme, queued = customer(), JobFilter(status=("queued",))
    file = bench.file(acme)
    oldest, middle, newest = (bench.job(acme, training_file=file.id).id for _ in range(3))
    page = jobs.list_page(resources, acme.id, limit=2, only=queued)
    assert [job.id for job in page.data] == [newest, middle]
    jobs.cancel(resources, acme.id, middle)
    rest = jobs.list_page(resources, acme.id, after=middle, only=queued)
    assert [job.id for job in rest.data] == [oldest]
    with pytest.raises(NotFound):  # another customer's is as unknown as before
        jobs.list_page(resources, customer().id, after=middle, only=queued)


def test_events_page_and_stream(resources: Resources, bench: Bench, customer: MakeCustomer) -> None:
    claim = bench.claim(bench.job(customer()))
    claims.heartbeat(resources, claim, events=[("info", "message", f"event {n}", {}) for n in range(5)])
    customer_id, job_id = claim.job.customer_id, claim.job.id
    page = jobs.events_page(resources, customer_id, job_id, limit=3)
    assert [event.message for event in page.data] == ["event 4", "event 3", "event 2"]
    assert page.has_more
    rest = jobs.events_page(resources, customer_id, job_id, after=page.data[-1].id, limit=10)
    assert [event.message for event in rest.data][:2] == ["event 1", "event 0"]
    seen = jobs.events_since(resources, customer_id, job_id, page.data[1].seq)
    assert [event.message for event in seen] == ["event 4"]


def test_the_warnings_of_its_files_are_on_the_job(
    resources: Resources, bench: Bench, customer: MakeCustomer, tmp_path: Path
) -> None:
    acme = customer("acme")
    rows = "".join(f"text {n},{'ab'[n % 2]},1\n" for n in range(30))
    (tmp_path / "rows.csv").write_text("text,label,weight\n" + rows)
    (tmp_path / "held.csv").write_text("text,label\nonly,a\n")
    training = files.create(resources, acme.id, NewFile(tmp_path / "rows.csv", "rows.csv"))
    held = files.create(resources, acme.id, NewFile(tmp_path / "held.csv", "held.csv", purpose="validation"))
    job = bench.job(acme, training_file=training.id, validation_file=held.id)
    assert [(warning["file"], warning["code"]) for warning in bench.read(job).warnings] == [
        (training.id, "unused_column")
    ]
    with pytest.raises(UnusableFile, match="to score on"):
        bench.job(acme, training_file=held.id)


SEVERAL = "text,labels\n" + "".join(f"text {n},{'a|b' if n % 2 else 'b'}\n" for n in range(12))
ONE = "text,labels\n" + "".join(f"text {n},{'a' if n % 2 else '[]'}\n" for n in range(12))
SINGLE = "text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(12))


@pytest.mark.parametrize(
    ("rows", "minimum", "refused"),
    [(SEVERAL, 10_000, "no label is left"), (ONE, 7, "no label is left"), (SINGLE, 7, "fewer than two labels"),
     (SEVERAL, 7, None), (ONE, 6, None), (SINGLE, 6, None)],
)  # fmt: skip
def test_labels_that_are_all_rare_are_refused_with_the_hyperparameter(
    resources: Resources,
    bench: Bench,
    customer: MakeCustomer,
    tmp_path: Path,
    rows: str,
    minimum: int,
    refused: str | None,
) -> None:
    acme = customer("acme")
    (tmp_path / "rows.csv").write_text(rows)
    file = files.create(resources, acme.id, NewFile(tmp_path / "rows.csv", "rows.csv"))
    asked = {"training_file": file.id, "hyperparameters": {"min_rows_per_label": minimum}}
    if refused is None:
        assert bench.job(acme, **asked).status == "queued"
        return
    with pytest.raises(UnusableFile, match=f"{refused}.* Ask for a smaller min_rows_per_label"):
        bench.job(acme, **asked)
