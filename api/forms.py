"""A multipart form's text fields as a body of the wire format."""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

from pydantic import ValidationError

from api import json_bodies
from api.errors import InvalidBody, InvalidJson, from_validation
from api.schemas.base import Body
from api.uploads import Form, Upload

Model = TypeVar("Model", bound=Body)


class MissingFile(InvalidBody):
    """The form carries no file."""

    message = "The form needs a file in its field '{field}'."


def body_of(model: type[Model], form: Form, *, files: set[str]) -> Model:
    """Return the form's fields as `model`; objects, lists and numbers are written as JSON in their fields.

    `files` are the fields that may be files. Raises InvalidBody naming the field.
    """
    values: dict[str, Any] = {}
    for name, text in form.fields.items():
        if name in files and name not in model.model_fields:
            reason = f"The form's field '{name}' is a text, not a file. With curl an @ reads a file: -F {name}=@PATH."
            raise InvalidBody(reason=reason, param=name)
        values[name] = _value(model, name, text)
    for name in form.files:
        if name not in files:
            raise InvalidBody(
                reason=f"The form has a file in '{name}'; files go into {' or '.join(sorted(files))}.", param=name
            )
    return validated(model, values)


def validated(model: type[Model], values: dict[str, Any]) -> Model:
    """Return `values` as `model`; raises InvalidBody."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_validation(error.errors(include_input=False, include_url=False)) from error


def file_of(form: Form, name: str = "file") -> Upload:
    """Return the form's file; raises MissingFile."""
    if name not in form.files:
        raise MissingFile(field=name, param=name)
    return form.files[name]


def _value(model: type[Body], name: str, text: str) -> Any:
    field = model.model_fields.get(name)
    if field is None or _may_be_text(field.annotation):
        return text
    if text == "":
        return None
    try:
        return json_bodies.parse(text.encode())
    except InvalidJson as error:
        why = f"The form's field '{name}' is not valid JSON: {error.data['reason']}."
        raise InvalidBody(reason=f"{why} It is {text[:80]!r}.", param=name) from error


def _may_be_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    if typing.get_origin(annotation) is typing.Literal:
        return True
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, typing.Annotated}:
        return any(_may_be_text(branch) for branch in typing.get_args(annotation))
    return False
