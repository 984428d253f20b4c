"""What the books say after the faults: no job lost, none done twice, none billed twice."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.benchmarks.faults_injection import Fault
from tests.benchmarks.faults_traffic import Customer
from tests.benchmarks.faults_world import World

# How a job may end through each fault: `models.errors.JobError.code`.
_EXPLAINS = {
    "kill worker": {"worker_lost"},
    "freeze worker": {"worker_lost"},
    "kill trainer": {"trainer_died"},
    "fill disk": {"disk_full", "storage_failed"},
    "restart postgresql": {"storage_failed"},
}


@dataclass
class Audit:
    """Each list names the jobs or models with which something is wrong."""

    accepted: int = 0
    succeeded: int = 0
    failed: dict[str, int] = field(default_factory=dict)  # by the error's code
    attempts: dict[int, int] = field(default_factory=dict)  # how many jobs took how many
    lost: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    made_twice: list[str] = field(default_factory=list)
    published_twice: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    billed_twice: list[str] = field(default_factory=list)
    unbilled: list[str] = field(default_factory=list)
    billed_in_vain: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    @property
    def faultless(self) -> bool:
        return not any(value for name, value in asdict(self).items() if isinstance(value, list))

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def examine(world: World, customers: Sequence[Customer], faults: Sequence[Fault]) -> Audit:
    """Look at every job, version and bill; ask every model."""
    audit = Audit()
    codes = {code for fault in faults for code in _EXPLAINS.get(fault.kind, ())}
    versions = collections.Counter(job for (job,) in world.rows("SELECT job_id FROM model_versions"))
    bills = collections.Counter(
        job for (job,) in world.rows("SELECT job_id FROM usage_records WHERE kind = 'training'")
    )
    for customer in customers:
        audit.accepted += len(customer.accepted)
        rows = world.rows("SELECT id FROM jobs WHERE customer_id = :id", id=customer.id)
        audit.made_twice += [job for (job,) in rows if job not in customer.accepted]
        with world.graft.client(customer.key) as client:
            for job in customer.accepted:
                _examine_job(client.get(f"/v1/fine_tuning/jobs/{job}"), job, audit, codes, versions, bills)
            for model, name in world.rows("SELECT id, name FROM models WHERE customer_id = :id", id=customer.id):
                query = "SELECT number FROM model_versions WHERE model_id = :id ORDER BY number"
                numbers = [number for (number,) in world.rows(query, id=model)]
                if numbers != list(range(1, len(numbers) + 1)):
                    audit.gaps.append(f"{customer.name}/{name}: {numbers}")
                for number in numbers:
                    answer = client.post(f"/v1/models/{name}@{number}/predict", json={"inputs": ["where is my parcel"]})
                    if not answer.is_success:
                        audit.unanswered.append(f"{customer.name}/{name}@{number}: {answer.status_code}")
    return audit


def _examine_job(
    answer: Any, job: str, audit: Audit, codes: set[str], versions: dict[str, int], bills: dict[str, int]
) -> None:
    found = answer.json() if answer.is_success else {"status": f"HTTP {answer.status_code}"}
    attempts = found.get("attempt", 0)
    audit.attempts[attempts] = audit.attempts.get(attempts, 0) + 1
    if found["status"] == "succeeded":
        audit.succeeded += 1
        if versions[job] == 0:
            audit.unpublished.append(job)
        if bills[job] == 0:
            audit.unbilled.append(job)
    elif found["status"] == "failed":
        code = found["error"]["code"]
        audit.failed[code] = audit.failed.get(code, 0) + 1
        if code not in codes:
            audit.unexplained.append(f"{job}: {found['error']}")
        if bills[job]:
            audit.billed_in_vain.append(job)
    else:
        audit.lost.append(f"{job}: {found['status']}")
    if versions[job] > 1:
        audit.published_twice.append(job)
    if bills[job] > 1:
        audit.billed_twice.append(job)
