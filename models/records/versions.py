"""Models, their immutable versions, and the aliases that point at the version that answers."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, validates

from models.errors import NotFound
from models.records.base import Base
from models.records.clock import read_clock
from models.records.pages import Order, Page, fetch_page
from models.records.retired_models import find_last_number

LIVE = "live"
_MOST_STEPS = 100  # that an alias can be moved back


class Model(Base):
    """The stable name that a customer calls. `name` is the suffix of its jobs."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("customer_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    base_model: Mapped[str] = mapped_column(String(128))
    full_name: Mapped[str] = mapped_column(String(255), index=True)
    task: Mapped[str] = mapped_column(String(40))
    promote: Mapped[str] = mapped_column(
        String(10), default="auto", server_default="auto"
    )  # which versions may go live by themselves
    last_number: Mapped[int] = mapped_column(default=0, server_default="0")  # of its versions, those deleted included
    created_at: Mapped[float]


class ModelVersion(Base):
    """One immutable version, made by one candidate of one job. Published at most once."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "number"), UniqueConstraint("job_id", "candidate"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # "ftckpt-…": the checkpoint id on the wire
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    candidate: Mapped[str] = mapped_column(String(40))  # learning.contract.events.VersionReady.name
    artifact_prefix: Mapped[str] = mapped_column(String(512))  # in the object store; manifest.json below it
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int]
    metrics: Mapped[dict[str, float]]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class Alias(Base):
    """A name for a version of a model. `live` is the one that answers when no version is named."""

    __tablename__ = "aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int]
    history: Mapped[list[int]] = mapped_column(default=list)  # earlier numbers, oldest first
    # What processes from before schema 0003 read and write in place of the history; for one minor version.
    last_step: Mapped[int | None] = mapped_column("previous")
    updated_at: Mapped[float]

    @validates("history")
    def _keep_last_step(self, _name: str, history: list[int]) -> list[int]:
        self.last_step = history[-1] if history else None
        return history

    @property
    def steps(self) -> list[int]:
        """Earlier numbers, oldest first, with the one that a process from before schema 0003 noted last."""
        if self.last_step is None or self.history[-1:] == [self.last_step]:
            return self.history
        return [*self.history, self.last_step]

    @property
    def previous(self) -> int | None:
        """The number before this one, to which a roll-back returns."""
        return self.steps[-1] if self.steps else None


def find_model(session: Session, customer_id: str, name: str) -> Model | None:
    """Return the customer's model by its name or its full name."""
    statement = select(Model).where(Model.customer_id == customer_id, or_(Model.name == name, Model.full_name == name))
    return session.scalar(statement)


def require_model(session: Session, customer_id: str, name: str) -> Model:
    """Return the customer's model by its name or its full name; raises NotFound."""
    model = find_model(session, customer_id, name)
    if model is None:
        raise NotFound(kind="model", id=name, param="model")
    return model


def lock_model(session: Session, model_id: str) -> Model | None:
    """Return the model, held while its versions are numbered or its aliases move. Job first, then model."""
    statement = select(Model).where(Model.id == model_id).with_for_update(key_share=True)
    return session.scalar(statement.execution_options(populate_existing=True))


def fetch_models(session: Session, customer_id: str, *, after: str | None, limit: int) -> Page[Model]:
    """Return the customer's models that have a version, newest first."""
    servable = select(ModelVersion.id).where(ModelVersion.model_id == Model.id).exists()
    statement = select(Model).where(Model.customer_id == customer_id)
    order = Order("model", (Model.created_at, Model.id), Model.id)
    return fetch_page(session, statement, order, after=after, limit=limit, only=[servable])


def find_version(session: Session, model_id: str, number: int) -> ModelVersion | None:
    """Return a version of a model by its number."""
    statement = select(ModelVersion).where(ModelVersion.model_id == model_id, ModelVersion.number == number)
    return session.scalar(statement)


def list_numbers(session: Session, model_id: str) -> list[int]:
    """Return the numbers of a model's versions, oldest first."""
    statement = select(ModelVersion.number).where(ModelVersion.model_id == model_id)
    return list(session.scalars(statement.order_by(ModelVersion.number)))


def manifests_of(session: Session, model_id: str) -> list[str]:
    """Return the hashes of the manifests of a model's versions."""
    return list(session.scalars(select(ModelVersion.manifest_sha256).where(ModelVersion.model_id == model_id)))


def find_candidate(session: Session, job_id: str, candidate: str) -> ModelVersion | None:
    """Return the version that a job's candidate became."""
    statement = select(ModelVersion).where(ModelVersion.job_id == job_id, ModelVersion.candidate == candidate)
    return session.scalar(statement)


def find_latest_of_job(session: Session, job_id: str) -> ModelVersion | None:
    """Return the version that a job published last."""
    statement = select(ModelVersion).where(ModelVersion.job_id == job_id).order_by(ModelVersion.number.desc())
    return session.scalar(statement.limit(1))


def has_versions(session: Session, model_id: str) -> bool:
    """Return whether the model has any version."""
    return session.scalar(select(ModelVersion.id).where(ModelVersion.model_id == model_id).limit(1)) is not None


def next_number(session: Session, model: Model) -> int:
    """Take the number of the next version, which none of this name had before; hold the model's lock."""
    # Processes from before schema 0003 count from the versions that there are, and leave `last_number` alone.
    newest = session.scalar(select(func.max(ModelVersion.number)).where(ModelVersion.model_id == model.id)) or 0
    retired = find_last_number(session, model.customer_id, model.name)
    model.last_number = max(model.last_number, newest, retired) + 1
    return model.last_number


def fetch_versions(session: Session, model_id: str, *, after: str | None, limit: int) -> Page[ModelVersion]:
    """Return a model's versions, newest first."""
    statement = select(ModelVersion).where(ModelVersion.model_id == model_id)
    order = Order("version", (ModelVersion.number, ModelVersion.id), ModelVersion.id)
    return fetch_page(session, statement, order, after=after, limit=limit)


def fetch_checkpoints(session: Session, job_id: str, *, after: str | None, limit: int) -> Page[ModelVersion]:
    """Return the versions that one job published, newest first."""
    statement = select(ModelVersion).where(ModelVersion.job_id == job_id)
    order = Order("checkpoint", (ModelVersion.number, ModelVersion.id), ModelVersion.id)
    return fetch_page(session, statement, order, after=after, limit=limit)


def find_alias(session: Session, model_id: str, name: str) -> Alias | None:
    """Return an alias of a model by its name."""
    return session.get(Alias, (model_id, name), populate_existing=True)


def fetch_aliases(session: Session, model_id: str) -> list[Alias]:
    """Return every alias of a model, by name."""
    return list(session.scalars(select(Alias).where(Alias.model_id == model_id).order_by(Alias.name)))


def live_numbers(session: Session, model_ids: Collection[str]) -> dict[str, int]:
    """Return the version that answers, by model id; models without one are left out."""
    statement = select(Alias.model_id, Alias.number).where(Alias.name == LIVE, Alias.model_id.in_(model_ids))
    return {row[0]: row[1] for row in session.execute(statement)}


def point(session: Session, model_id: str, name: str, number: int) -> Alias:
    """Move an alias, or make it; hold the model's lock. Its history keeps where it pointed."""
    alias = find_alias(session, model_id, name)
    now = read_clock(session)
    if alias is None:
        alias = Alias(model_id=model_id, name=name, number=number, history=[], updated_at=now)
        session.add(alias)
    elif alias.number != number:
        alias.history = [*alias.steps, alias.number][-_MOST_STEPS:]
        alias.number, alias.updated_at = number, now
    session.flush()
    return alias


def point_back(session: Session, alias: Alias) -> None:
    """Move an alias, whose history is not empty, to where it pointed before; hold the model's lock."""
    *alias.history, alias.number = alias.steps
    alias.updated_at = read_clock(session)
    session.flush()


def forget_version(session: Session, version: ModelVersion) -> None:
    """Delete a version that no alias points at, and drop it from what they pointed at before; hold the model's lock."""
    for alias in fetch_aliases(session, version.model_id):
        steps = [number for number in alias.steps if number != version.number]
        # Two steps that have become one: going back must change something.
        alias.history = [number for number, following in pairwise([*steps, alias.number]) if number != following]
    session.delete(version)
    session.flush()


def known_prefixes(session: Session, prefixes: Collection[str]) -> set[str]:
    """Return the artifact prefixes that a version names, of any customer, for the sweeper."""
    return set(session.scalars(select(ModelVersion.artifact_prefix).where(ModelVersion.artifact_prefix.in_(prefixes))))


def find_models_with_losses(session: Session, model_ids: Collection[str]) -> set[str]:
    """Return the models, of any customer, with an alias that names a version that is not there, for the sweeper.

    No version that an alias names can be deleted: such rows were lost.
    """
    there = select(ModelVersion.id).where(ModelVersion.model_id == Alias.model_id, ModelVersion.number == Alias.number)
    return set(session.scalars(select(Alias.model_id).where(Alias.model_id.in_(model_ids), ~there.exists())))
