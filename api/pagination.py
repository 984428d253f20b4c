"""Lists: `after` and `limit` in, `{"object": "list", "data", "has_more"}` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Query

from api.schemas.base import Listing, Object
from models.records.pages import Page

Source = TypeVar("Source")
Item = TypeVar("Item", bound=Object)

After = Annotated[str | None, Query(description="The last id of the page before.", max_length=300)]
Limit = Annotated[int, Query(description="How many at most.", ge=1, le=100)]
DEFAULT_LIMIT = 20


def listing(page: Page[Source], render: Callable[[Source], Item]) -> Listing[Item]:
    """Return the wire form of a page."""
    return Listing.of([render(row) for row in page.data], has_more=page.has_more)
