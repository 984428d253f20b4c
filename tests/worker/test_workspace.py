from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from models.records.files import File
from models.records.versions import ModelVersion
from models.services import customers
from models.storage.filesystem import DirectoryStore
from worker import workspace
from worker.errors import DatasetCorrupt
from worker.job_runner import JobRunner
from worker.workspace import Workspace


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path, customer_id="cus_1", job_id="ftjob-1", attempt=1, worker="host:1:abc")


def file(content: bytes) -> File:
    return File(id="file-1", filename="t.csv", object_key="k", sha256=hashlib.sha256(content).hexdigest())


def test_a_data_set_is_checked_against_its_hash(place, tmp_path):
    place.create()
    store = DirectoryStore(tmp_path / "objects")
    store.put_bytes("k", b"rows")
    assert place.fetch(store, file(b"rows")).read_bytes() == b"rows"
    store.put_bytes("k", b"rotten")
    with pytest.raises(DatasetCorrupt):
        place.fetch(store, file(b"rows"))


def test_the_live_version_is_brought_with_as_many_of_its_files_as_there_are(place, tmp_path):
    place.create()
    store = DirectoryStore(tmp_path / "objects")
    version = ModelVersion(number=3, artifact_prefix="v/")
    for name in ("manifest.json", "weights.safetensors"):
        store.put_bytes(f"v/{name}", name.encode())
    live = place.fetch_version(store, version)  # of an earlier release: without the record of its rows
    assert live.number == 3
    assert {path.name for path in live.folder.iterdir()} == {"manifest.json", "weights.safetensors"}
    store.put_bytes("v/rows.safetensors", b"rows")
    assert (place.fetch_version(store, version).folder / "rows.safetensors").read_bytes() == b"rows"
    store.delete_prefix("v/")
    assert place.fetch_version(store, ModelVersion(number=4, artifact_prefix="v/")).number == 4


@pytest.mark.parametrize("job_ended", [True, False])
def test_checkpoints_stay_as_long_as_an_attempt_may_follow(place, job_ended):
    place.create()
    (place.checkpoints / "state").write_text("x")
    (place.features / "f").write_text("x")
    place.remove(job_ended=job_ended)
    assert not place.scratch.exists()
    assert place.checkpoints.exists() is not job_ended
    assert place.features.exists()


def test_orphaned_scratch_is_removed_and_the_living_are_left_alone(place, tmp_path):
    place.create()
    program = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from worker.workspace import Workspace\n"
        f"w = Workspace(Path({str(tmp_path)!r}), customer_id='c', job_id='ftjob-2', attempt=1, worker='h:1:dead')\n"
        "w.create()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    dead = tmp_path / "scratch" / "ftjob-2-1-dead"
    assert dead.exists()
    assert workspace.remove_orphaned_scratch(tmp_path) == 1
    assert not dead.exists()
    assert place.scratch.exists()
    place.remove(job_ended=False)
    assert workspace.remove_orphaned_scratch(tmp_path) == 0


def test_the_least_recently_used_features_go_first(tmp_path):
    for age, customer in enumerate(["cus_new", "cus_mid", "cus_old"]):
        folder = tmp_path / "features" / customer
        folder.mkdir(parents=True)
        (folder / "f").write_bytes(b"x" * 100)
        os.utime(folder / "f", (1_000_000 - age, 1_000_000 - age))
    assert workspace.shrink_caches(tmp_path, 250) == 100
    assert [(tmp_path / "features" / c / "f").exists() for c in ["cus_new", "cus_mid", "cus_old"]] == [
        True,
        True,
        False,
    ]
    assert workspace.shrink_caches(tmp_path, 250) == 0


def test_whoever_waits_for_room_gives_up_the_caches_first(tmp_path):
    cached = tmp_path / "features" / "cus_1" / "f"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x")
    asked = []
    workspace.await_room(tmp_path, asked.append, longest_s=60.0)
    assert not cached.exists()
    assert asked == [1.0]  # nobody waits any more


def test_what_is_kept_for_a_deleted_customer_goes(resources, submit, fetch):
    kept, gone = (fetch(submit("quick")) for _ in range(2))
    cache = resources.settings.cache_dir
    for job in (kept, gone):
        place = Workspace(cache, customer_id=job.customer_id, job_id=job.id, attempt=1, worker="host:1:abc")
        place.create()
        (place.features / "f").write_text("x")
        (place.checkpoints / "state").write_text("x")
        place.remove(job_ended=False)
    assert workspace.remove_orphaned_caches(resources) == 0
    customers.delete(resources, gone.customer_id)
    workspace.remove_orphaned_caches(resources)  # what the deletion itself has left: another machine's, say
    assert [folder.name for folder in (cache / "features").iterdir()] == [kept.customer_id]
    assert [folder.name for folder in (cache / "checkpoints").iterdir()] == [kept.id]


def test_a_worker_that_starts_forgets_deleted_customers(resources, submit, fetch, stand_in, until):
    job = fetch(submit("quick"))
    features = resources.settings.cache_dir / "features" / job.customer_id
    features.mkdir(parents=True)
    (features / "f").write_text("x")
    customers.delete(resources, job.customer_id)
    runner = JobRunner(resources, stand_in)
    runner.start()
    until(lambda: not features.exists())
    runner.close()
