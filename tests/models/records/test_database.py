from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from models.errors import Unavailable
from models.records import migrations, schema
from models.records.customers import Customer
from models.records.database import Database, DatabaseUnavailable, DiskFull, UnstorableValue


def make_customer(name: str, **values: object) -> Customer:
    return Customer(id=f"cus_{name}", name=name, meta=values.pop("meta", {}), created_at=1.0, **values)


def test_migrated_schema_is_the_metadata(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.METADATA) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    assert "jobs" in inspect(database.engine).get_table_names()


def test_processes_of_an_older_release_keep_the_schema_of_a_newer_one(database: Database) -> None:
    def read() -> str:
        with database.engine.connect() as connection:
            return str(connection.scalar(text("SELECT version_num FROM alembic_version")))

    def write(revision: str) -> None:
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    newest = read()
    write("9999")
    try:
        database.migrate()
        assert read() == "9999"
    finally:
        write(newest)


def test_the_clock_moves_within_a_transaction(database: Database) -> None:
    with database.transaction() as session:
        first = database.now(session)
        deadline = time.monotonic() + 5
        while (later := database.now(session)) == first and time.monotonic() < deadline:
            pass
    assert first < later
    assert abs(first - time.time()) < 60


def test_rows_stay_readable_after_the_session(database: Database) -> None:
    with database.transaction() as session:
        row = make_customer("acme", meta={"z": "1", "a": "2"})
        session.add(row)
    assert row.name == "acme"
    with database.reading() as session:
        found = session.get_one(Customer, "cus_acme")
    # Also the order of keys: reports and label lists depend on it.
    assert list(found.meta) == ["z", "a"]


def test_an_error_rolls_back(database: Database) -> None:
    def write_and_stumble() -> None:
        with database.transaction() as session:
            session.add(make_customer("acme"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_stumble()
    with database.reading() as session:
        assert session.get(Customer, "cus_acme") is None


def test_nan_becomes_null(database: Database) -> None:
    with database.transaction() as session:
        session.add(make_customer("acme", meta={"loss": float("nan")}))
    with database.reading() as session:
        assert session.get_one(Customer, "cus_acme").meta == {"loss": None}


def test_what_no_column_can_hold_is_the_callers_mistake(database: Database) -> None:
    with pytest.raises(UnstorableValue), database.transaction() as session:
        session.execute(text("SELECT CAST(:value AS TEXT)"), {"value": "half a pair \ud800"})


def test_a_foreign_key_must_point_somewhere(database: Database) -> None:
    from sqlalchemy.exc import IntegrityError

    from models.records.files import File

    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(
            File(
                id="file-1",
                customer_id="cus_nobody",
                filename="a",
                purpose="fine-tune",
                bytes=1,
                sha256="",
                object_key="",
                profile={},
                created_at=1.0,
            )
        )


def test_writers_wait_for_each_other(database: Database) -> None:
    """Many threads read, then write what they read plus one: nothing is lost and nobody fails."""
    with database.transaction() as session:
        session.add(make_customer("acme", meta={"n": "0"}))

    def add_one() -> None:
        for _ in range(5):
            with database.transaction() as session:
                row = session.get_one(Customer, "cus_acme", with_for_update=True)
                row.meta = {"n": str(int(row.meta["n"]) + 1)}

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.get_one(Customer, "cus_acme").meta == {"n": "40"}


def test_a_reader_sees_the_past_while_somebody_writes(database: Database) -> None:
    with database.transaction() as writer:
        writer.add(make_customer("acme"))
        writer.flush()
        with database.reading() as reader:
            assert reader.get(Customer, "cus_acme") is None


@pytest.mark.slow
def test_several_processes_migrate_at_once(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if database_kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty %20 folder'}.db"
    else:
        server = request.getfixturevalue("postgresql_server")
        with server.connect() as connection:
            connection.execute(text("DROP DATABASE IF EXISTS graft_empty WITH (FORCE)"))
            connection.execute(text("CREATE DATABASE graft_empty"))
        url = server.url.set(database="graft_empty").render_as_string(hide_password=False)
    program = "import sys; from models.records.database import Database; Database(sys.argv[1]).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    database = Database(url)
    assert "jobs" in inspect(database.engine).get_table_names()
    database.ping()
    database.close()


def test_a_connection_that_was_cut_is_replaced(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("a file has no connection to cut")
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :me"
    )

    def lose_the_connection() -> None:
        with database.transaction() as session:
            session.execute(text("SELECT 1"))
            with database.engine.connect() as other:
                other.execute(cut, {"me": other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()})
            session.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        lose_the_connection()
    database.ping()


def test_a_server_that_is_away() -> None:
    database = Database("postgresql://graft@127.0.0.1:1/graft")
    with pytest.raises(DatabaseUnavailable):
        database.ping()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseUnavailable):
        database.ping()


def test_a_database_without_room_says_so_and_works_again(tmp_path: Path) -> None:
    """Before, it was a 503 that promised nothing."""
    database = Database(f"sqlite:///{tmp_path / 'graft.db'}", pool_size=1)
    database.migrate()

    def write() -> None:
        with database.transaction() as session:
            pages = session.execute(text("PRAGMA page_count")).scalar_one()
            session.execute(text(f"PRAGMA max_page_count = {pages if full else 2**30}"))
            session.add(Customer(id="cus_1", name="x" * 100_000, created_at=0.0))

    full = True
    with pytest.raises(DiskFull) as raised:
        write()
    assert (raised.value.status, raised.value.code) == (507, "disk_full")
    full = False
    write()
    database.close()


@pytest.mark.parametrize("database_kind", ["sqlite"])  # the revisions are the same
def test_the_schema_of_the_last_release_is_part_of_this_one(database_kind: str, tmp_path: Path) -> None:
    """Processes of the last release run beside new ones during an upgrade, and after them when one goes back."""
    database = Database(f"{database_kind}:///{tmp_path / 'graft.db'}")
    migrations.upgrade(database.engine, "0002")
    before = _columns(database)
    database.migrate()
    after = _columns(database)
    database.close()
    assert before.keys() <= after.keys()
    added = after.keys() - before.keys()
    # What an old process does not name when it inserts a row needs a default of the database's.
    assert not [name for name in added if name[0] in {table for table, _ in before} and not after[name]]


def _columns(database: Database) -> dict[tuple[str, str], bool]:
    """Every column with whether a row can be inserted without it."""
    found = inspect(database.engine)
    return {
        (table, column["name"]): bool(column["nullable"] or column["default"] is not None)
        for table in found.get_table_names()
        for column in found.get_columns(table)
    }
