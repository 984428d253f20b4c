"""The states of a job: an illegal move raises, however it is tried."""

from __future__ import annotations

from itertools import product

import pytest

from models.records.jobs import Job
from models.records.transitions import ENDED, TRANSITIONS, UNFINISHED, IllegalTransition, check, sources


@pytest.mark.parametrize(("source", "target"), list(product(TRANSITIONS, TRANSITIONS)))
def test_a_job_moves_along_the_table_and_in_no_other_way(source, target):
    job = Job(status=source)
    if target in TRANSITIONS[source]:
        check(source, target)
        job.status = target
        assert job.status == target
        assert source in sources(target)
    else:
        with pytest.raises(IllegalTransition):
            check(source, target)
        with pytest.raises(IllegalTransition):
            job.status = target
        assert job.status == source
        assert source not in sources(target)


def test_what_has_ended_stays_so_and_a_worker_takes_only_what_is_queued():
    assert {"succeeded", "failed", "cancelled"} == ENDED
    assert {"queued", "running", "paused"} == UNFINISHED
    assert sources("running") == ("queued",)
