"""Where the command line finds server and key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.cli.connection import (
    DEFAULT_SERVER,
    Connection,
    as_customer,
    as_operator,
    config_path,
    read_config,
    write_config,
)
from deploy.cli.errors import CommandError, NoKey


@pytest.fixture(autouse=True)
def _own_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_without_a_key_the_ways_to_give_one_are_named() -> None:
    with pytest.raises(NoKey, match="GRAFT_API_KEY"):
        as_customer(None, None)
    with pytest.raises(NoKey, match="GRAFT_ADMIN_KEY"):
        as_operator(None, None)


def test_kept_values_are_found_and_private() -> None:
    path = write_config(server="https://graft.example.com", key='gr-"quoted"\\')
    assert path == config_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert as_customer(None, None) == Connection("https://graft.example.com", 'gr-"quoted"\\')
    write_config(admin_key="operator")
    assert read_config() == {"server": "https://graft.example.com", "key": 'gr-"quoted"\\', "admin_key": "operator"}


def test_a_kept_key_is_not_shown_to_another_server() -> None:
    write_config(server="https://graft.example.com", key="gr-kept")
    with pytest.raises(NoKey):
        as_customer("https://elsewhere.example.com", None)
    assert as_customer("https://elsewhere.example.com", "gr-given").key == "gr-given"


def test_a_login_to_another_server_forgets_the_keys_of_the_one_before() -> None:
    write_config(server="https://a.example.com", key="gr-a", admin_key="operator-of-a")
    write_config(server="https://b.example.com", key="gr-b")
    assert read_config() == {"server": "https://b.example.com", "key": "gr-b"}
    with pytest.raises(NoKey):
        as_operator(None, None)


def test_keys_that_were_kept_without_a_server_are_the_default_servers() -> None:
    write_config(admin_key="operator-of-the-default")
    write_config(server=f"{DEFAULT_SERVER}/v1", key="gr-here")
    assert as_operator(None, None) == Connection(DEFAULT_SERVER, "operator-of-the-default")
    write_config(server="https://b.example.com", key="gr-b")
    assert "admin_key" not in read_config()


@pytest.mark.parametrize("again", ["127.0.0.1:9000", "http://127.0.0.1:9000/", "http://127.0.0.1:9000/v1/"])
def test_the_same_server_in_other_words_keeps_its_keys(again: str) -> None:
    write_config(server="127.0.0.1:9000", admin_key="operator")
    write_config(server=again, key="gr-mine")
    assert as_operator(None, None) == Connection("http://127.0.0.1:9000", "operator")


@pytest.mark.parametrize("address", ["https://g.example.com/", "https://g.example.com/v1", "https://g.example.com/v1/"])
def test_the_sdks_base_url_is_understood(address: str) -> None:
    assert as_customer(address, "k").server == "https://g.example.com"


def test_a_bare_host_is_http() -> None:
    assert as_customer("127.0.0.1:9000", "k").server == "http://127.0.0.1:9000"


def test_a_broken_file_is_told() -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text("server = ")
    with pytest.raises(CommandError, match="Mend or delete it"):
        read_config()
