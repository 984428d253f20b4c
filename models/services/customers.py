"""Customers: created, listed and deleted by the operator."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from models.identifiers import new_id
from models.records import audit, changes, customers, idempotency
from models.records.customers import Customer
from models.records.files import File
from models.records.idempotency import IdempotentAnswer
from models.records.job_events import JobEvent
from models.records.jobs import Job
from models.records.keys import ApiKey
from models.records.pages import Page
from models.records.retired_models import RetiredModel
from models.records.training_shares import TrainingShare
from models.records.usage import UsageRecord
from models.records.versions import Alias, Model, ModelVersion
from models.services import caches
from models.services.errors import NameTaken
from models.services.metadata import check_metadata, check_name
from models.services.resources import Resources
from models.storage.errors import StorageUnavailable
from models.storage.keys import customer_prefix

# The scope of the operator's answers.
_OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """A deletion's count of rows by table, and of objects in the store.

    `complete` is False when the store could not be reached: its objects go with the sweeper's next round.
    """

    id: str
    rows: int
    objects: int
    removed: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def create(resources: Resources, *, name: str, metadata: dict[str, str] | None = None) -> Customer:
    """Make a customer; raises InvalidName, NameTaken, InvalidMetadata."""
    check_name(name, "customer", param="name")
    pairs = check_metadata(metadata)
    try:
        with resources.database.transaction() as session:
            if customers.find_by_name(session, name) is not None:
                raise NameTaken(kind="customer", name=name, param="name")
            customer = Customer(id=new_id("cus_"), name=name, meta=pairs, created_at=resources.database.now(session))
            session.add(customer)
            audit.record(session, resources.actor, "customer.created", customer.id, customer.id)
    except IntegrityError as error:  # another request was faster
        raise NameTaken(kind="customer", name=name, param="name") from error
    return customer


def get(resources: Resources, customer_id: str) -> Customer:
    """Return one customer. Raises NotFound."""
    with resources.database.reading() as session:
        return customers.require(session, customer_id)


def list_page(resources: Resources, *, after: str | None = None, limit: int = 20) -> Page[Customer]:
    """Return customers, newest first."""
    with resources.database.reading() as session:
        return customers.fetch_list(session, after=after, limit=limit)


def delete(resources: Resources, customer_id: str) -> DeletionReport:
    """Remove everything of a customer: rows first, so that access ends and running jobs lose their lease, then objects.

    What a worker still uploads afterwards is an orphan, and the sweeper removes it. Raises NotFound.
    """
    with resources.database.transaction() as session:
        customers.lock_for_deletion(session, customer_id)
        jobs = select(Job.id).where(Job.customer_id == customer_id)
        models = select(Model.id).where(Model.customer_id == customer_id)
        # In the order of all locks: customer, jobs, models; rows of a table by id.
        session.execute(jobs.order_by(Job.id).with_for_update()).all()
        session.execute(models.order_by(Model.id).with_for_update()).all()
        keys = select(ApiKey.hash).where(ApiKey.customer_id == customer_id)
        job_ids = session.scalars(jobs).all()
        hashes = session.scalars(keys.order_by(ApiKey.id).with_for_update()).all()
        conditions = {
            JobEvent: JobEvent.job_id.in_(jobs),
            Alias: Alias.model_id.in_(models),
            ModelVersion: ModelVersion.model_id.in_(models),
            Job: Job.customer_id == customer_id,
            Model: Model.customer_id == customer_id,
            RetiredModel: RetiredModel.customer_id == customer_id,
            File: File.customer_id == customer_id,
            ApiKey: ApiKey.customer_id == customer_id,
            UsageRecord: UsageRecord.customer_id == customer_id,
            TrainingShare: TrainingShare.customer_id == customer_id,
            IdempotentAnswer: IdempotentAnswer.scope == customer_id,
            Customer: Customer.id == customer_id,
        }
        removed: dict[str, int] = {}
        for table, condition in conditions.items():
            removed[table.__tablename__] = session.scalar(select(func.count()).select_from(table).where(condition)) or 0
            session.execute(sql_delete(table).where(condition).execution_options(synchronize_session=False))
        idempotency.forget_object(session, _OPERATOR, customer_id)  # its name, as the operator was answered
        changes.record(session, "customer", customer_id)
        changes.forget_before(session, customer_id)
        for secret_sha256 in hashes:
            changes.record(session, "key", secret_sha256)
        before = {table: count for table, count in removed.items() if count}
        audit.record(session, resources.actor, "customer.deleted", customer_id, customer_id, before=before)
    caches.empty(resources, customer_id, job_ids)
    rows = sum(removed.values())
    try:
        objects = resources.store.delete_prefix(customer_prefix(customer_id))
    except StorageUnavailable:
        return DeletionReport(id=customer_id, rows=rows, objects=0, removed=removed, complete=False)
    return DeletionReport(id=customer_id, rows=rows, objects=objects, removed=removed)
