"""Where the tests of `models` compute: `GRAFT_TEST_DEVICE=cuda` runs them on a GPU."""

import os

DEVICE = os.environ.get("GRAFT_TEST_DEVICE", "cpu")
