from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import catalog
from models.services.resources import Resources
from models.serving.adapters.cache import AdapterCache
from models.serving.adapters.disk_cache import ArtifactDiskCache
from models.serving.errors import ArtifactBroken
from models.settings import Settings
from models.storage.store import ObjectStore
from tests.models.serving.conftest import TEXTS, call, until


class Counting:
    """The test's own store with a counter in front of it."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.fetched: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def get_file(self, key: str, path: Path) -> None:
        self.fetched[key] += 1
        self.store.get_file(key, path)


def test_an_adapter_is_fetched_once_however_many_wait(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any
) -> None:
    acme = customer()
    version = publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            counting = predictor.artifacts._store = Counting(predictor.artifacts._store)
            await asyncio.gather(*(predictor.predict(call(acme)) for _ in range(30)))
            assert counting.fetched == {f"{version.artifact_prefix}weights.safetensors": 1}
            assert predictor.cache.loads == 1

    asyncio.run(run())


def test_a_broken_artifact_hurts_only_its_owner(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any, resources: Resources
) -> None:
    owners = [customer() for _ in range(4)]
    versions = [publish(owner, seed=at) for at, owner in enumerate(owners)]
    weights = f"{versions[0].artifact_prefix}weights.safetensors"
    data = bytearray(resources.store.get_bytes(weights))
    data[-1] ^= 1
    resources.store.put_bytes(weights, bytes(data))
    resources.store.delete(f"{versions[1].artifact_prefix}weights.safetensors")
    resources.store.put_bytes(f"{versions[2].artifact_prefix}manifest.json", b"{}")

    async def run() -> None:
        async with predicting() as predictor:
            calls = [predictor.predict(call(owner)) for owner in owners]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers[:3]] == [ArtifactBroken] * 3
            assert len(answers[3].predictions) == len(TEXTS)

    asyncio.run(run())


def test_a_damaged_copy_on_disk_is_fetched_again(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any, settings: Settings
) -> None:
    acme = customer()
    publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            first = await predictor.predict(call(acme))
        (copy,) = (settings.cache_dir / "adapters").glob("*/*/*/weights.safetensors")
        copy.write_bytes(b"x" * 100)
        async with predicting() as predictor:
            assert (await predictor.predict(call(acme))).predictions == first.predictions
            assert predictor.artifacts.disk_bytes == sum(path.stat().st_size for path in copy.parent.iterdir())

    asyncio.run(run())


def test_disk_answers_when_the_store_is_away(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any, settings: Settings
) -> None:
    acme = customer()
    publish(acme)

    async def run() -> None:
        async with predicting() as predictor:
            first = await predictor.predict(call(acme))
        async with predicting() as predictor:
            predictor.artifacts._store = None
            assert (await predictor.predict(call(acme))).predictions == first.predictions

    asyncio.run(run())


def test_memory_and_disk_stay_within_their_bounds(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any, settings: Settings
) -> None:
    owners = [customer() for _ in range(6)]
    for at, owner in enumerate(owners):
        publish(owner, seed=at)

    async def run() -> None:
        async with predicting() as predictor:
            one = (await predictor.predict(call(owners[0])), predictor.cache.bytes)[1]
            disk = predictor.artifacts.disk_bytes
        shutil.rmtree(settings.cache_dir / "adapters")
        bounds = {"adapter_memory_bytes": 2 * one + 1, "adapter_disk_bytes": 3 * disk + disk // 2}
        async with predicting(**bounds) as predictor:
            for _ in range(2):
                for owner in owners:
                    answer = await predictor.predict(call(owner))
                    assert len(answer.predictions) == len(TEXTS)
            assert len(predictor.cache) == 2
            assert predictor.cache.bytes <= bounds["adapter_memory_bytes"]
            assert predictor.artifacts.disk_bytes <= bounds["adapter_disk_bytes"]
            folders = list((settings.cache_dir / "adapters").glob("*/*/*/"))
            assert len(folders) == 3
            # An adapter larger than the memory it may have still answers.
        async with predicting(adapter_memory_bytes=1) as predictor:
            assert (await predictor.predict(call(owners[0]))).predictions
            assert predictor.cache.bytes == 0

    asyncio.run(run())


def test_a_published_version_is_fetched_before_it_is_asked_for(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any
) -> None:
    acme = customer()

    async def run() -> None:
        async with predicting() as predictor:
            await asyncio.to_thread(publish, acme)
            await until(lambda: len(predictor.cache) == 1)

    asyncio.run(run())


def test_a_fetch_that_was_cut_off_is_swept_up(resources: Resources, tmp_path: Path) -> None:
    cut_off = tmp_path / "artifacts" / "0" / "cus_1" / "fetch_x"
    cut_off.mkdir(parents=True)
    cache = ArtifactDiskCache(resources.store, tmp_path / "artifacts", limit_bytes=100)
    assert cache.disk_bytes == 0
    assert not cut_off.exists()
    cache.close()


class Pausing:
    """The test's own store, which stops in the middle of a fetch until it is told to go on."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def get_bytes(self, key: str) -> bytes:
        return self.store.get_bytes(key)

    def get_file(self, key: str, path: Path) -> None:
        self.store.get_file(key, path)
        self.reached.set()
        assert self.go_on.wait(30)


def test_disk_caches_on_one_folder_do_not_touch_each_others_files(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], resources: Resources, tmp_path: Path
) -> None:
    owners = [customer() for _ in range(4)]
    for at, owner in enumerate(owners):
        publish(owner, seed=at)
    versions = [catalog.resolve(resources, owner.id, "tickets") for owner in owners]
    pausing: Any = Pausing(resources.store)
    first = ArtifactDiskCache(pausing, tmp_path / "artifacts", limit_bytes=2**30)
    with ThreadPoolExecutor(1) as other_thread:
        fetching = other_thread.submit(first.read, versions[0])
        assert pausing.reached.wait(30)
        # A second cache begins, sweeps up, fetches the same, and has room for one artifact only.
        second = ArtifactDiskCache(resources.store, tmp_path / "artifacts", limit_bytes=1)
        for version in versions:
            assert second.read(version).tensors
        pausing.go_on.set()
        assert fetching.result().tensors
    held = first.disk_bytes
    for version in reversed(versions):
        second.read(version)
    first._store = None  # type: ignore[assignment]  # what it fetched is still there
    assert first.read(versions[0]).tensors
    assert first.disk_bytes == held
    # A customer who is deleted goes from every folder, also those of predictors that run no more.
    first.close()
    second.remove_customer(owners[0].id)
    assert not list((tmp_path / "artifacts").glob(f"*/{owners[0].id}"))
    second.close()


_HOLDER = """
import sys, time
from pathlib import Path
from models.serving.adapters.cache import AdapterCache
from models.serving.adapters.disk_cache import ArtifactDiskCache
cache = ArtifactDiskCache(None, Path(sys.argv[1]), limit_bytes=1)
(cache.folder / "cus_1").mkdir()
print(cache.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_the_folder_of_a_killed_process_serves_the_next_one(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        beside: Any = ArtifactDiskCache(None, tmp_path, limit_bytes=1)  # type: ignore[arg-type]
        assert beside.folder != theirs
        process.kill()
        process.wait()
        after = ArtifactDiskCache(None, tmp_path, limit_bytes=1)  # type: ignore[arg-type]
        assert after.folder == theirs
        assert (after.folder / "cus_1").is_dir()
        beside.close()
        after.close()
    finally:
        process.kill()
        process.wait()


def test_a_broken_artifact_is_not_fetched_by_every_request(
    customer: Callable[..., Customer], publish: Callable[..., ModelVersion], predicting: Any, resources: Resources
) -> None:
    acme = customer()
    version = publish(acme)
    resources.store.delete(f"{version.artifact_prefix}manifest.json")

    async def run() -> None:
        async with predicting() as predictor:
            for _ in range(5):
                with pytest.raises(ArtifactBroken):
                    await predictor.predict(call(acme))
            assert predictor.cache.loads == 1

    asyncio.run(run())


def test_a_version_that_is_deleted_while_it_is_loaded_is_not_kept() -> None:
    go_on = threading.Event()
    let_go = []
    version = catalog.ResolvedVersion("cus_1", "mod_1", "m", "ft:minilm:acme:m", 1, "p/", "sha", "minilm", "t")

    class Adapter:
        customer_id = "cus_1"
        nbytes = 7

        def let_go(self) -> None:
            let_go.append(self)

    def load(_version: catalog.ResolvedVersion) -> Adapter:
        assert go_on.wait(30)
        return Adapter()

    async def run() -> None:
        cache = AdapterCache(load, limit_bytes=100)
        waiting = asyncio.create_task(cache.get(version))
        await until(lambda: cache.loads == 1)
        cache.drop("cus_1", "sha")
        go_on.set()
        answered = await waiting  # who has asked is answered
        assert (len(cache), cache.bytes) == (0, 0)
        assert let_go == [answered]
        await cache.get(version)
        assert (len(cache), cache.bytes) == (1, 7)
        cache.drop("cus_1", "sha")
        assert (len(cache), cache.bytes) == (0, 0)
        cache.close()

    asyncio.run(run())
