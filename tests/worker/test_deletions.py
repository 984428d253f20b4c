"""A worker's caches after another process has deleted what they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.records import changes
from models.records.customers import Customer
from models.services import caches, customers
from models.services.resources import Resources
from worker.deletions import Deletions


def _fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "kept").write_bytes(b"x")
    return folder


def test_caches_of_deleted_files_and_customers_go_with_the_next_sweep(
    resources: Resources, customer: Callable[..., Customer]
) -> None:
    one, other, gone = customer(), customer(), customer()
    cache_dir = resources.settings.cache_dir
    deletions = Deletions(resources)
    customers.delete(resources, gone.id)
    folders = {each.id: _fill(caches.features_folder(cache_dir, each.id)) for each in (one, other, gone)}
    orphan = _fill(caches.checkpoints_folder(cache_dir, "ftjob-of-the-deleted"))
    with resources.database.transaction() as session:
        caches.announce_file(session, one.id)
        changes.record(session, "model", other.id, "tickets")
    assert deletions.follow() == 2
    assert {name for name, folder in folders.items() if folder.exists()} == {other.id}
    assert not orphan.exists()
    # Once: what is computed again stays.
    _fill(folders[one.id])
    assert deletions.follow() == 0
    assert folders[one.id].exists()


@pytest.mark.slow
def test_a_log_that_a_reader_holds_is_emptied_by_a_later_sweep(
    resources: Resources, customer: Callable[..., Customer]
) -> None:
    if resources.database.dialect != "sqlite":
        return
    path = Path(str(resources.database.engine.url.database) + "-wal")
    deletions = Deletions(resources)
    gone = customer("kanarienvogel")
    with resources.database.reading() as reader:
        assert reader.get(Customer, gone.id) is not None
        customers.delete(resources, gone.id)
        assert b"kanarienvogel" in path.read_bytes()
        deletions.follow()
        assert path.stat().st_size > 0
    assert deletions.follow() == 0
    assert path.stat().st_size == 0
    assert b"kanarienvogel" not in path.with_name(path.name.removesuffix("-wal")).read_bytes()


def test_changes_keep_their_numbers_when_a_customer_is_deleted(
    resources: Resources, customer: Callable[..., Customer]
) -> None:
    """Or who has seen the last change would take the deletion for it."""
    gone, other = customer(), customer()
    with resources.database.transaction() as session:
        changes.record(session, "model", other.id, "kept")
        changes.record(session, "model", gone.id, "tickets")
    with resources.database.reading() as session:
        before = changes.since(session, 60)
    customers.delete(resources, gone.id)
    with resources.database.reading() as session:
        after = changes.since(session, 60)
    assert [(row.kind, row.name) for row in after] == [("model", "kept"), ("customer", None)]
    assert after[-1].seq > before[-1].seq
