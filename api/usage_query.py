"""The query of usage, the customer's own and the operator's: which stretch of time, summed up by what, which page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Query

from api.errors import InvalidBody
from api.pagination import After
from api.schemas.base import Listing
from api.schemas.usage import UsageBucket, usage_bucket
from models.services import usage
from models.services.resources import Resources
from models.services.usage import DAY_S, GROUPS, HOUR_S, Group

_DEFAULT_SPAN_S = 7 * DAY_S
_LONGEST_SPAN_S = 366 * DAY_S
_WIDTHS = {"1h": HOUR_S, "1d": DAY_S}

Width = Literal["1h", "1d"]
Instant = Annotated[float | None, Query(description="Unix seconds.", ge=0, le=1e11)]
GroupBy = Annotated[
    list[Group] | None, Query(description="Keep apart by kind, by model, or (the default) by both.", max_length=2)
]
Most = Annotated[int, Query(description="How many at most.", ge=1, le=10_000)]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A checked query."""

    start: float
    end: float
    width: Width | None
    by: tuple[Group, ...]
    after: str | None
    limit: int

    def answer(self, resources: Resources, customer_id: str, *, default_width: Width) -> Listing[UsageBucket]:
        """Return a page of a customer's usage. Raises NotFound."""
        width_s = _WIDTHS[self.width or default_width]
        page = usage.list_page(
            resources,
            customer_id,
            self.start,
            self.end,
            width_s=width_s,
            by=self.by,
            after=self.after,
            limit=self.limit,
        )
        by_kind, by_model = "kind" in self.by, "model" in self.by
        found = [usage_bucket(row, width_s=width_s, by_kind=by_kind, by_model=by_model) for row in page.data]
        return Listing.of(found, has_more=page.has_more)


def _query(
    start_time: Instant = None,
    end_time: Instant = None,
    bucket_width: Annotated[Width | None, Query(description="An hour or a day (in UTC).")] = None,
    *,
    group_by: GroupBy = None,
    after: After = None,
    limit: Most = 1_000,
) -> UsageQuery:
    end = time.time() if end_time is None else end_time
    start = end - _DEFAULT_SPAN_S if start_time is None else start_time
    if not 0 <= end - start <= _LONGEST_SPAN_S:
        raise InvalidBody(reason="start_time must lie before end_time, and at most 366 days.", param="start_time")
    return UsageQuery(start, end, bucket_width, tuple(group_by or GROUPS), after, limit)


AskedUsage = Annotated[UsageQuery, Depends(_query)]
