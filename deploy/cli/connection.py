"""The server and the key of a command: from its options, else the environment, else `~/.config/graft/config.toml`."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.errors import CommandError, NoKey

DEFAULT_SERVER = "http://127.0.0.1:8000"
_FIELDS = ("server", "key", "admin_key")

Server = Annotated[
    str | None,
    typer.Option("--server", envvar="GRAFT_SERVER", help="The API's address.", rich_help_panel="Connection"),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="GRAFT_API_KEY", help="A customer's key.", rich_help_panel="Connection"),
]
AdminKey = Annotated[
    str | None,
    typer.Option("--key", envvar="GRAFT_ADMIN_KEY", help="The operator's key.", rich_help_panel="Connection"),
]
PromoteOption = Annotated[
    str | None,
    typer.Option("--promote", help="What goes live by itself: auto (no worse than what is live), always, never."),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and keys with which requests are sent."""

    server: str
    key: str


def as_customer(server: str | None, key: str | None) -> Connection:
    """Return the connection of a customer's command. Raises NoKey."""
    return _resolve(server, key, "key", "GRAFT_API_KEY")


def as_operator(server: str | None, key: str | None) -> Connection:
    """Return the connection of an operator's command. Raises NoKey."""
    return _resolve(server, key, "admin_key", "GRAFT_ADMIN_KEY")


def config_path() -> Path:
    """Return the path of the file in which `graft login` keeps server and key."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "graft" / "config.toml"


def read_config() -> dict[str, str]:
    """Return what is kept; empty if nothing is. Raises CommandError for a file that cannot be read."""
    path = config_path()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(reason=f"Cannot read {path}: {error}. Mend or delete it.") from None
    return {name: value for name in _FIELDS if isinstance(value := values.get(name), str) and value}


def write_config(**values: str | None) -> Path:
    """Keep values beside those that are kept already; the file is readable by its owner only.

    Keys of another server do not stay: they would be sent to the new one.
    """
    kept = read_config()
    server = values.get("server")
    if server and normalise(server) != _kept_server(kept):
        kept = {}
    kept |= {name: value for name, value in values.items() if value}
    path = config_path()
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        # A JSON string in ASCII is a TOML basic string.
        file.writelines(f"{name} = {json.dumps(kept[name])}\n" for name in _FIELDS if name in kept)
    temporary.replace(path)
    return path


def normalise(address: str) -> str:
    """Return a server's address in one form: with a scheme, without the slash and the `/v1` that people paste."""
    if "://" not in address:
        address = f"http://{address}"
    return address.rstrip("/").removesuffix("/v1").rstrip("/")


def _resolve(server: str | None, key: str | None, kept_as: str, variable: str) -> Connection:
    kept = read_config()
    address = normalise(server) if server else _kept_server(kept)
    # A kept key belongs to the kept server: it is not shown to another one.
    same = address == _kept_server(kept)
    found = key or (kept.get(kept_as) if same else None)
    if not found:
        raise NoKey(server=address, variable=variable)
    if not found.isascii():  # not shown: most of it may be a key
        raise CommandError(reason="The key has characters that no key has. Copy it again, whole and alone.")
    return Connection(server=address, key=found)


def _kept_server(kept: dict[str, str]) -> str:
    return normalise(kept.get("server", DEFAULT_SERVER))
