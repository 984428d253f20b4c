"""/v1/models: base models and the customer's own; versions, and the aliases of those that answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api import context
from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.context import Configuration, ControlPlane
from api.documentation import answers
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.base import Deleted, Listing
from api.schemas.catalog import (
    AliasObject,
    ChangeModel,
    ModelObject,
    SetAlias,
    VersionObject,
    alias_object,
    base_model_object,
    model_object,
    version_object,
)
from models.backbones import registry
from models.errors import NotFound
from models.services import catalog, exports
from models.services.resources import Resources

router = APIRouter(
    prefix="/v1/models", tags=["models"], route_class=CustomerRoute, responses=answers(401, 403, 404, 429)
)

Name = Annotated[str, Path(alias="model", description="A name or a full name (`ft:…`).", examples=["first-steps"])]
VersionNumber = Annotated[int, Path(alias="version", description="A version's number.", ge=1, le=10**9)]
AliasName = Annotated[str, Path(alias="alias", description="An alias.", examples=["live"])]


@router.get("", dependencies=[needs("predict", "train", "manage")])
def list_all(
    caller: Caller,
    resources: ControlPlane,
    settings: Configuration,
    after: After = None,
    # The openai SDK reads one page of models and asks for no other.
    limit: Annotated[int, Query(description="How many at most.", ge=1, le=10_000)] = 10_000,
) -> Listing[ModelObject]:
    """List the base models, then your own, newest first."""
    bases = list(registry.entries(settings).values())
    names = [entry.name for entry in bases]
    if after is None or after in names:
        bases, cursor = bases[names.index(after) + 1 if after else 0 :], None
    else:
        bases, cursor = [], _cursor(resources, caller.customer_id, after)
    shown = [base_model_object(entry) for entry in bases[:limit]]
    # At least one row is asked for: whether there are more is to be known even if the page is full.
    page = catalog.list_models(resources, caller.customer_id, after=cursor, limit=max(1, limit - len(shown)))
    live = catalog.live_numbers(resources, page.data)
    own = [model_object(model, caller.customer_name, live.get(model.id)) for model in page.data]
    data = [*shown, *own][:limit]
    return Listing.of(data, has_more=page.has_more or len(data) < len(bases) + len(own))


@router.get("/{model}", dependencies=[needs("predict", "train", "manage")])
def retrieve(name: Name, caller: Caller, resources: ControlPlane, settings: Configuration) -> ModelObject:
    """Retrieve a model, a base or your own; with `@version`, as that version."""
    entry = registry.entries(settings).get(name)
    if entry is not None:
        return base_model_object(entry)
    if "@" in name:
        pinned = catalog.resolve(resources, caller.customer_id, name)
        model = catalog.get_model(resources, caller.customer_id, pinned.name)
        return model_object(model, caller.customer_name, pinned.number)
    model = catalog.get_model(resources, caller.customer_id, name)
    return model_object(model, caller.customer_name, catalog.live_numbers(resources, [model]).get(model.id))


@router.get("/{model}/export", response_class=Response, responses=answers(400), dependencies=[needs("train", "manage")])
def export(name: Name, caller: Caller, resources: ControlPlane) -> Response:
    """Download a version of a model that writes as a PEFT adapter folder, in a zip."""
    stem, content = exports.as_peft(resources, caller.customer_id, name)
    headers = {"content-disposition": f'attachment; filename="{stem}.zip"'}
    return Response(content, headers=headers, media_type="application/zip")


@router.patch("/{model}", responses=answers(400), dependencies=[needs("manage")])
def change(name: Name, body: ChangeModel, caller: Caller, resources: ControlPlane) -> ModelObject:
    """Change a model of yours: what of its later jobs goes live by itself."""
    model = catalog.set_promotion(resources, caller.customer_id, name, body.promote)
    return model_object(model, caller.customer_name, catalog.live_numbers(resources, [model]).get(model.id))


@router.delete("/{model}", responses=answers(409), dependencies=[needs("manage")])
def delete(request: Request, name: Name, caller: Caller, resources: ControlPlane) -> Deleted:
    """Delete a model of yours with all of its versions; a new one of its name goes on counting behind their numbers."""
    model = catalog.delete_model(resources, caller.customer_id, name)
    context.of(request).note_change(caller.customer_id, model.name)
    return Deleted(id=model.full_name, object="model")


@router.get("/{model}/versions", dependencies=[needs("predict", "train", "manage")])
def versions(
    name: Name, caller: Caller, resources: ControlPlane, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Listing[VersionObject]:
    """List a model's versions, newest first."""
    model = catalog.get_model(resources, caller.customer_id, name)
    page = catalog.versions_page(resources, caller.customer_id, name, after=after, limit=limit)
    live = catalog.live_numbers(resources, [model]).get(model.id)
    return listing(page, lambda version: version_object(version, model.full_name, live))


@router.get("/{model}/aliases", dependencies=[needs("predict", "train", "manage")])
def aliases(name: Name, caller: Caller, resources: ControlPlane) -> Listing[AliasObject]:
    """List a model's aliases."""
    model = catalog.get_model(resources, caller.customer_id, name)
    found = catalog.aliases(resources, caller.customer_id, name)
    return Listing.of([alias_object(alias, model.full_name) for alias in found])


@router.put("/{model}/aliases/{alias}", responses=answers(400, 409), dependencies=[needs("manage")])
def set_alias(
    request: Request, name: Name, alias: AliasName, body: SetAlias, *, caller: Caller, resources: ControlPlane
) -> AliasObject:
    """Promote a version by moving `live` to it, or roll back with `previous`."""
    model = catalog.get_model(resources, caller.customer_id, name)
    if body.version == "previous":
        pointer = catalog.roll_back(resources, caller.customer_id, name, alias)
    else:
        pointer = catalog.set_alias(resources, caller.customer_id, name, alias, body.version)
    context.of(request).note_change(caller.customer_id, model.name)
    return alias_object(pointer, model.full_name)


@router.delete("/{model}/versions/{version}", responses=answers(409), dependencies=[needs("manage")])
def delete_version(
    request: Request, name: Name, number: VersionNumber, caller: Caller, resources: ControlPlane
) -> Deleted:
    """Delete a version that no alias points at. Its number is not used again."""
    model = catalog.get_model(resources, caller.customer_id, name)
    version = catalog.delete_version(resources, caller.customer_id, name, number)
    context.of(request).note_change(caller.customer_id, model.name)
    return Deleted(id=version.id, object="model.version")


@router.delete("/{model}/aliases/{alias}", responses=answers(409), dependencies=[needs("manage")])
def delete_alias(request: Request, name: Name, alias: AliasName, caller: Caller, resources: ControlPlane) -> Deleted:
    """Delete an alias other than `live`. The version that it points at stays."""
    model = catalog.get_model(resources, caller.customer_id, name)
    pointer = catalog.delete_alias(resources, caller.customer_id, name, alias)
    context.of(request).note_change(caller.customer_id, model.name)
    return Deleted(id=pointer.name, object="model.alias")


def _cursor(resources: Resources, customer_id: str, after: str) -> str:
    try:
        return catalog.get_model(resources, customer_id, after).id
    except NotFound as error:
        raise NotFound(kind="model", id=after, param="after") from error
