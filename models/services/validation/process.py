"""A process that reads files: `python -m models.services.validation.process`. Started by `ReaderProcess`.

It steps back for prediction, has no secret in its environment, and ends with its parent. One order per line comes in.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import threading
import traceback
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.services.validation.messages import Answer, Order

MEMORY_VARIABLE = "GRAFT_READER_MEMORY_BYTES"
NICENESS_VARIABLE = "GRAFT_READER_NICENESS"

_OOM_SCORE = "700"  # the first that the kernel kills, before a trainer
# A process that has grown beyond this ends after its answer: to start another costs less than to keep the memory.
_KEPT_BYTES = 384 * 2**20


def main() -> int:
    """Answer orders until standard input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # stray prints of libraries belong to the log
    os.nice(int(os.environ.pop(NICENESS_VARIABLE)))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(_OOM_SCORE)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, int(os.environ.pop(MEMORY_VARIABLE)))
    # After the process has stepped back: this is most of a second's work.
    from models.services.validation import messages  # noqa: PLC0415

    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(orders,), name="orders", daemon=True).start()
    _send(answers, messages.encode(messages.Ready()))
    while True:
        order = messages.decode_order(orders.get())
        _allow_seconds(order.seconds)
        answer = _answer(order)
        _send(answers, messages.encode(answer))
        if answer.last:
            return 0


def _answer(order: Order) -> Answer:
    from models import disk  # noqa: PLC0415
    from models.errors import InvalidRequest  # noqa: PLC0415
    from models.services.validation.messages import Answer  # noqa: PLC0415

    try:
        profile = order.inspect()
    except InvalidRequest as error:
        return Answer(refusal=error, last=_has_grown())
    except MemoryError:
        return Answer(out_of_memory=True, last=True)
    except Exception as error:
        if disk.is_full(error):  # an archive's table is unpacked to a file
            return Answer(disk_full=True)
        return Answer(fault=traceback.format_exc(), last=True)
    return Answer(profile=profile, last=_has_grown())


def _receive(orders: SimpleQueue[bytes]) -> None:
    for line in _lines(0):
        orders.put(line)
    os._exit(0)  # nobody is there to read an answer


def _lines(fd: int) -> Iterator[bytes]:
    rest = b""
    while chunk := os.read(fd, 65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _send(fd: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(fd, view) :]


def _allow_seconds(seconds: float) -> None:
    """Let the kernel end this process when the order has used its computing time, whatever runs then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds))


def _limit(which: int, value: int) -> None:
    _, most = resource.getrlimit(which)
    with contextlib.suppress(OSError, ValueError):  # a system that does not know it, or allows less already
        resource.setrlimit(which, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _has_grown() -> bool:
    try:
        # Not getrusage's figure, which on Linux is inherited from the parent: a predictor is large.
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
            peak = next(int(line.split()[1]) * 1_024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
    return peak > _KEPT_BYTES


if __name__ == "__main__":
    sys.exit(main())
