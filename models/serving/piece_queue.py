"""Pieces of an answer between whoever writes them and whoever listens, in one event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from models.serving.errors import is_servers_fault
from models.serving.writing import Piece


@dataclass(slots=True, eq=False, kw_only=True)
class PieceQueue:
    """Pieces in order; behind the last one None, or what the writer failed with."""

    pieces: asyncio.Queue[Piece | BaseException | None] = field(default_factory=asyncio.Queue)
    ended: bool = False
    failed: bool = False  # by a fault of the server's

    def put(self, piece: Piece | BaseException | None) -> None:
        """Append a piece, None behind the last one, or what the writer failed with."""
        self.failed = self.failed or (isinstance(piece, BaseException) and is_servers_fault(piece))
        self.pieces.put_nowait(piece)

    async def next(self) -> Piece | None:
        """Return the next piece, None behind the last one. Raises what the writer failed with."""
        if self.ended:
            return None
        piece = await self.pieces.get()
        self.ended = piece is None or isinstance(piece, BaseException)
        if isinstance(piece, BaseException):
            raise piece
        return piece
