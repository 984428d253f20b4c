"""The declarative base and the column types that every table shares."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

# JSON as text on both, not JSONB: that sorts the keys, and the order of labels and of a report's entries matters.
Json = JSON(none_as_null=True)
# SQLite counts rows only in a column of type INTEGER.
Int = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Every table. Times are Unix seconds as floats, from the database's clock where they guard a lease."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: Json,
        dict[str, str]: Json,
        dict[str, int]: Json,
        dict[str, float]: Json,
        list[dict[str, Any]]: Json,
        list[int]: Json,
        list[str]: Json,
        int: Int,
        float: Double(),
    }
