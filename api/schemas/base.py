"""The common base of the requests and answers of the wire format."""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.errors import hint_at, shorten

Item = TypeVar("Item")

_METADATA_PAIRS = 16
_COLUMNS = 64
_METADATA_KEY_CHARS = 64
_METADATA_VALUE_CHARS = 512


class Body(BaseModel):
    """A request's body. An unknown field is an error that names it and the nearest known one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, values: Any) -> Any:
        if isinstance(values, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for name in values:
                if name not in known:
                    field, hint = shorten(str(name)), hint_at(str(name), known)
                    raise PydanticCustomError(
                        "unknown_field", "Unknown field '{field}'.{hint}", {"field": field, "hint": hint}
                    )
        return values


class Object(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(extra="forbid")


class Listing(Object, Generic[Item]):
    """A page of a list. `has_more`: `after=<last id>` brings another."""

    object: Literal["list"] = "list"
    data: list[Item] = Field(description="The items of this page.")
    first_id: str | None = Field(None, description="The id of the first item.")
    last_id: str | None = Field(None, description="The id of the last item: `after` of the next page.")
    has_more: bool = Field(False, description="Whether there are more behind the last one.")

    @classmethod
    def of(cls, data: list[Item], *, has_more: bool = False) -> Listing[Item]:
        """Return a page; its first and last id come from its items."""
        ids = [getattr(item, "id", None) for item in data]
        return cls(data=data, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more)


class Deleted(Object):
    """The answer to a DELETE."""

    id: str = Field(description="What was deleted.")
    object: str
    deleted: Literal[True] = Field(True, description="Always true.")


class ErrorBody(Object):
    """The error: what, where, and how to correct it."""

    message: str = Field(description="What is wrong and what to do about it, in a sentence or two.")
    type: str = Field(description="The kind of error, as OpenAI has them: `invalid_request_error`, ….")
    param: str | None = Field(None, description="The field that is wrong.")
    code: str = Field(description="The error for programs: one code per cause.")
    details: list[dict[str, Any]] | None = Field(None, description="One entry per bad row or field.")


class ErrorAnswer(Object):
    """Every answer of 400 and above."""

    error: ErrorBody = Field(description="What went wrong.")


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not key or len(key) > _METADATA_KEY_CHARS or len(value) > _METADATA_VALUE_CHARS:
            raise PydanticCustomError(
                "invalid_field",
                "metadata keys have 1 to 64 characters and values up to 512; '{key}' breaks this",
                {"key": shorten(key)},
            )
    return metadata


def _at_most(pairs: int) -> BeforeValidator:
    # Before the pairs are looked at one by one: pydantic describes every fault that it finds, and a million faults in
    # one small body would cost seconds and gigabytes. (Lists stop at the first one, by `FailFast`.)
    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > pairs:
            raise PydanticCustomError(
                "too_many_pairs", "at most {pairs} pairs, got {got}", {"pairs": pairs, "got": len(value)}
            )
        return value

    return BeforeValidator(check)


Metadata = Annotated[dict[str, str], AfterValidator(_check_metadata), _at_most(_METADATA_PAIRS)]
Columns = Annotated[dict[str, str], _at_most(_COLUMNS)]


def auto_or(what: str, *, flag: bool = False) -> WrapValidator:
    """Accept `"auto"` or the annotated type; otherwise raise one error about both, instead of one per branch.

    True and False are no numbers: they are let through only where a `flag` is asked for.
    """

    def check(value: Any, handler: Any) -> Any:
        if value == "auto" and isinstance(value, str):
            return value
        try:
            if isinstance(value, bool) and not flag:
                raise TypeError
            return handler(value)
        except (ValidationError, TypeError):
            raise PydanticCustomError("auto_or", 'must be "auto" or {what}', {"what": what}) from None

    return WrapValidator(check)


Text = Annotated[str, Field(min_length=1)]
# One value or several. Told apart before they are checked, so that an error is about the one that was meant; the tags
# are the names of pydantic's own union branches, which locations leave out.
OneOrMany = Discriminator(lambda value: "list" if isinstance(value, list) else "str")
One, Many = Tag("str"), Tag("list")
UnixSeconds = Annotated[int, Field(description="Unix time in seconds.")]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_display_name(name: str) -> str:
    """Check a name that people read: no control characters, not blank."""
    if _CONTROL.search(name) or not name.strip():
        raise PydanticCustomError("invalid_value", "must not be blank or hold control characters")
    return name.strip()
