"""References to a model's versions, by number or alias, and what there is where one means nothing."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from models.errors import NotFound
from models.records import jobs, versions
from models.records.versions import Alias, Model, ModelVersion
from models.services.errors import NoSuchAlias, NoSuchVersion

_NUMBER_DIGITS = 9
_NAMED = 10  # names of what there is, in the message about what there is not


def require_version(session: Session, model: Model, number: int) -> ModelVersion:
    """Return one version of a model; raises NoSuchVersion."""
    version = versions.find_version(session, model.id, number) if 0 < number < 10**_NUMBER_DIGITS else None
    if version is None:
        raise _no_version(session, model, str(number), param="version")
    return version


def require_alias(session: Session, model: Model, alias: str) -> Alias:
    """Return one alias of a model; raises NoSuchAlias."""
    pointer = versions.find_alias(session, model.id, alias)
    if pointer is None:
        raise _no_alias(session, model, alias, param="alias")
    return pointer


def select(session: Session, model: Model, selector: str) -> ModelVersion | None:
    """Return the version that a number or an alias means, if there is one."""
    if _is_number(selector):
        return versions.find_version(session, model.id, int(selector)) if len(selector) <= _NUMBER_DIGITS else None
    alias = versions.find_alias(session, model.id, selector)
    return versions.find_version(session, model.id, alias.number) if alias is not None else None


def not_selected(session: Session, model: Model, selector: str) -> NotFound:
    """Return the error about a number or an alias that means nothing."""
    if _is_number(selector):
        return _no_version(session, model, selector, param="model")
    return _no_alias(session, model, selector, param="model")


def own_models(session: Session, customer_id: str) -> str:
    """Return a sentence with the customer's models."""
    page = versions.fetch_models(session, customer_id, after=None, limit=_NAMED)
    if not page.data:
        return "You have no model yet."
    return f"Your models: {_listed(model.name for model in page.data)}{', …' if page.has_more else ''}."


def none_live_hint(model: Model) -> str:
    """Return a sentence about a model of which nothing is live."""
    return (
        f" None of its versions has gone live: promote one of them, or call one by its number, as in "
        f"'{model.name}@{model.last_number}'."
    )


def no_version_hint(session: Session, customer_id: str, model: Model) -> str:
    """Return a sentence about the job of a model without a version."""
    job = jobs.find_latest_of_model(session, customer_id, model.id)
    return f" Its job '{job.id}' is {job.status}." if job is not None else ""


def _is_number(selector: str) -> bool:
    return selector.isascii() and selector.isdecimal()


def _no_version(session: Session, model: Model, number: str, *, param: str) -> NoSuchVersion:
    numbers = versions.list_numbers(session, model.id)
    return NoSuchVersion(model=model.name, number=number[:80], known=_listed(map(str, numbers[-_NAMED:])), param=param)


def _no_alias(session: Session, model: Model, alias: str, *, param: str) -> NoSuchAlias:
    names = [each.name for each in versions.fetch_aliases(session, model.id)]
    return NoSuchAlias(model=model.name, alias=alias[:80], known=_listed(names[:_NAMED]), param=param)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
