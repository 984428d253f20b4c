"""A predictor that is asked for nothing written stays as small as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOOK = (
    "import sys, api.routes.chat, api.routes.completions, models.serving.predictor\n"
    "print([name for name in sys.modules if name.startswith(('models.serving.generation', 'llguidance'))"
    " or name == 'models.backbones.writing'])"
)


@pytest.mark.slow
def test_nothing_of_generation_is_imported_before_it_is_asked_for() -> None:
    found = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.strip() == "[]"
