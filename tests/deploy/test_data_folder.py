"""The data folder's locks, the operator's key, and what a killed launcher leaves behind."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import AdminKeyTooShort, DataFolderInUse, DataFolderUnusable
from deploy.local.folder import DataFolder
from deploy.local.launcher import Deployment, Plan
from deploy.local.migrations import migrate
from models.backbones import base_models_file
from models.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


def test_one_whole_deployment_per_folder(folder: DataFolder) -> None:
    folder.lock("graft", shared=False, holder="role all")
    with pytest.raises(DataFolderInUse, match=f"process {os.getpid()}, role all"):
        DataFolder(folder.path).lock("graft", shared=True, holder="role worker")
    folder.release()
    DataFolder(folder.path).lock("graft", shared=False, holder="role all")


def test_single_roles_share_a_folder(folder: DataFolder) -> None:
    other = DataFolder(folder.path)
    folder.lock("graft", shared=True, holder="role api")
    other.lock("graft", shared=True, holder="role worker")
    with pytest.raises(DataFolderInUse):
        DataFolder(folder.path).lock("graft", shared=False, holder="role all")


def test_a_lock_ends_with_its_process(folder: DataFolder) -> None:
    hold = (
        "import sys; from pathlib import Path; from deploy.local.folder import DataFolder\n"
        "folder = DataFolder(Path(sys.argv[1])); folder.lock('graft', shared=False, holder='x')\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataFolderInUse):
            folder.lock("graft", shared=False, holder="y")
        holder.kill()
        holder.wait()
    folder.lock("graft", shared=False, holder="y")


def test_the_operators_key_is_made_once_and_private(folder: DataFolder) -> None:
    key = folder.admin_key()
    assert key.startswith("gr-admin-")
    assert len(key) > 40
    assert DataFolder(folder.path).admin_key() == key
    assert stat.S_IMODE((folder.path / "admin.key").stat().st_mode) == 0o600


def test_a_start_without_room_leaves_no_key_that_is_empty(folder: DataFolder) -> None:
    """It left an empty one: every later start said that it was ready, and had no operator's key."""
    start = (
        "import resource, sys; from pathlib import Path; from deploy.local.folder import DataFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); DataFolder(Path(sys.argv[1])).admin_key()"
    )
    command = [sys.executable, "-c", start, str(folder.path)]
    answer = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert f"DataFolderUnusable: Cannot use {folder.path} for data: File too large" in answer.stderr
    assert list(folder.path.glob("*admin.key*")) == []
    assert len(folder.admin_key()) > 40


def test_starts_at_once_agree_on_one_key(folder: DataFolder) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: DataFolder(folder.path).admin_key(), range(32)))) == 1
    assert [path.name for path in folder.path.glob("*admin.key*")] == ["admin.key"]


@pytest.mark.parametrize("content", ["", "\n", "gr-admin-cut-off\n"])
def test_a_key_that_is_empty_or_too_short_is_refused_with_its_mend(folder: DataFolder, content: str) -> None:
    path = folder.path / "admin.key"
    path.write_text(content)
    with pytest.raises(AdminKeyTooShort) as caught:
        folder.admin_key()
    said = str(caught.value)
    assert f"in {path} has {len(content.strip())} characters, fewer than 32. Delete the file" in said
    assert len(said.splitlines()) == 1
    path.unlink()
    assert len(folder.admin_key()) > 40


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """Before, any user of the machine could read the database and every customer's data."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.path.chmod(0o755)  # as earlier releases made it
    DataFolder(folder.path).create()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_folder_that_was_there_before_keeps_its_mode(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    mine.chmod(0o755)
    DataFolder(mine).create()
    assert stat.S_IMODE(mine.stat().st_mode) == 0o755
    for part in ("run", "logs", "objects", "cache"):
        assert stat.S_IMODE((mine / part).stat().st_mode) == 0o700
    migrate(Settings(data_dir=mine, database_url=""))
    assert stat.S_IMODE((mine / "graft.db").stat().st_mode) == 0o600


def test_a_folder_into_which_a_backup_was_put_is_closed(tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    (restored / "objects").mkdir(parents=True)
    (restored / "graft.db").touch()
    restored.chmod(0o755)
    DataFolder(restored).create()
    assert stat.S_IMODE(restored.stat().st_mode) == 0o700


def test_a_folder_that_the_base_models_came_into_first_is_closed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", base_models_file=None)
    with base_models_file.changing(settings):
        pass
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    settings.data_dir.chmod(0o755)  # as earlier releases made it
    DataFolder(settings.data_dir).create()
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(DataFolderUnusable, match="--data"):
        DataFolder(tmp_path / "data").create()
    deployment = Deployment(Plan(data=tmp_path / "data", port=0), report=lambda _: None)
    with pytest.raises(DataFolderUnusable, match="--data"):  # cleaning up hid it: there is no folder to clean up in
        deployment.start()


def test_leftovers_of_a_killed_launcher_are_stopped(folder: DataFolder) -> None:
    start = (
        "import subprocess, sys, os, signal; from pathlib import Path; from deploy.local.folder import DataFolder\n"
        "folder = DataFolder(Path(sys.argv[1]))\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "folder.remember([child.pid]); print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    answer = subprocess.run([sys.executable, "-c", start, str(folder.path)], stdout=subprocess.PIPE, check=False)
    orphan = psutil.Process(int(answer.stdout))
    assert orphan.is_running()
    assert folder.stop_leftovers() == 1
    psutil.wait_procs([orphan], timeout=10)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert folder.stop_leftovers() == 0


@pytest.mark.slow
def test_what_a_launcher_had_started_when_it_was_killed_is_stopped(folder: DataFolder) -> None:
    """Valkey was left for ever, and the next `graft up` ran a second one on the same files."""
    start = (
        "import sys; from pathlib import Path; from deploy.local.launcher import Deployment, Plan\n"
        "Deployment(Plan(data=Path(sys.argv[1]), port=0)).start()"
    )
    with socket.create_server(("127.0.0.1", 0)) as database:  # it takes the migrations' connection and never answers
        database.settimeout(60)
        env = {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}
        env["GRAFT_DATABASE_URL"] = f"postgresql+psycopg://graft@127.0.0.1:{database.getsockname()[1]}/graft"
        with subprocess.Popen([sys.executable, "-c", start, str(folder.path)], env=env) as launcher:
            started: list[psutil.Process] = []
            try:
                connection, _ = database.accept()
                started = psutil.Process(launcher.pid).children()
                launcher.kill()
                launcher.wait()
                assert {process.name() for process in started} >= {"valkey-server"}
                assert len(started) == 2
                assert folder.stop_leftovers() == 2
                _, left = psutil.wait_procs(started, timeout=10)
                assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
                connection.close()
            finally:
                launcher.kill()
                for process in started:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


def test_processes_of_a_living_launcher_are_left_alone(folder: DataFolder) -> None:
    folder.remember([os.getpid()])
    assert DataFolder(folder.path).stop_leftovers() == 0


def test_a_number_that_was_used_again_is_left_alone(folder: DataFolder) -> None:
    (folder.run / "launcher-1.json").write_text(f'[{{"pid": {os.getpid()}, "created": 1.0}}]')
    assert folder.stop_leftovers() == 0
