"""What a caller's text may do to a console that shows the log: nothing."""

from __future__ import annotations

import subprocess
import sys

# A file's name, a path or an error's message, as an attacker chooses it: a line that looks like ours, and sequences
# that clear the screen, turn the reading direction and set the window's title.
_HOSTILE = "x\n2026-01-01T00:00:00Z [info     ] all is well\r\x1b[2J\x9b2J\u202etxt\x7f\u2028"

_PROGRAM = """
import structlog
from models import logs
from models.settings import Settings
logs.configure(Settings(log_format={form!r}))
log = structlog.get_logger("graft.test")
hostile = {hostile!r}
log.info("refused " + hostile, filename=hostile)
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("failed")
"""


def _logged(form: str) -> list[str]:
    program = _PROGRAM.format(form=form, hostile=_HOSTILE)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stderr.decode("utf-8").removesuffix("\n").split("\n")


def test_a_console_gets_one_line_per_event_without_control_characters() -> None:
    lines = _logged("console")
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[2J\\x9b2J\\u202etxt\\x7f\\u2028" in lines[0]
    # Before, the text stood at the beginning of a line of its own, in the traceback too.
    assert [line for line in lines if "all is well" in line and line.startswith("2026-01-01")] == []
    assert [line[:2] for line in lines if line.strip().startswith("ValueError: x")] == ["  "]


def test_json_gets_one_line_per_event_without_control_characters() -> None:
    lines = _logged("json")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
