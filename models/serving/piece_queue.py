"""Pieces of an answer between whoever writes them and whoever listens, in one event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from models.serving.writing import Piece


@dataclass(slots=True, eq=False, kw_only=True)
class PieceQueue:
    """Pieces in order; behind the last one None, or what the writer failed with."""

    pieces: asyncio.Queue[Piece | BaseException | None] = field(default_factory=asyncio.Queue)
    ended: bool = False

    async def next(self) -> Piece | None:
        """Return the next piece, None behind the last one. Raises what the writer failed with."""
        if self.ended:
            return None
        piece = await self.pieces.get()
        self.ended = piece is None or isinstance(piece, BaseException)
        if isinstance(piece, BaseException):
            raise piece
        return piece
