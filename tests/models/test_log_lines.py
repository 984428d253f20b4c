from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from typing import Any

from models.log_lines import LogLines


class Counted(io.BytesIO):
    writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        return super().write(data)


def test_lines_of_an_event_loop_are_written_together_and_in_order() -> None:
    file = Counted()
    lines = LogLines(file)

    async def run() -> None:
        for number in range(100):
            lines.write(b"%d\n" % number)
            lines.flush()
        assert file.writes == 0
        async with asyncio.timeout(10):
            while not file.writes:
                await asyncio.sleep(0.01)
        lines.write(b"and one more\n")
        async with asyncio.timeout(10):
            while file.writes < 2:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert file.writes == 2
    assert file.getvalue() == b"".join(b"%d\n" % number for number in range(100)) + b"and one more\n"


def test_without_a_loop_a_line_is_written_at_once() -> None:
    file = Counted()
    LogLines(file).write(b"one\n")
    assert file.getvalue() == b"one\n"


def test_a_line_of_a_loop_that_ended_comes_with_the_next() -> None:
    file = Counted()
    lines = LogLines(file)

    async def run(line: bytes, *, wait: bool) -> None:
        lines.write(line)
        async with asyncio.timeout(10):
            while wait and not file.writes:
                await asyncio.sleep(0.01)

    asyncio.run(run(b"one\n", wait=False))
    asyncio.run(run(b"two\n", wait=True))
    assert file.getvalue() == b"one\ntwo\n"


def test_nothing_is_lost_when_the_process_ends() -> None:
    code = (
        "import asyncio, sys\n"
        "from models.log_lines import LogLines\n"
        "lines = LogLines(sys.stderr.buffer)\n"
        "async def run(): lines.write(b'the last line\\n')\n"
        "asyncio.run(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"the last line\n"
