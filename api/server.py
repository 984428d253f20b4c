"""`python -m api.server`: the API as a process, with uvicorn, as the settings say.

What uvicorn's own command would leave out is here: bounds of connections (`connections`), whose forwarded addresses are
believed, and as many open files as the connections need.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import resource
import sys

import uvicorn
from pydantic import SecretStr, ValidationError

from api.application import create_app
from api.connection_limits import Connections
from api.connections import protocol_over
from models.settings import Settings, describe_faults

# Beside the connections: the database's, the store's, the broker's, uploads, libraries.
_OTHER_FILES = 512
# Modules that bring torch, and those that are imported by name when a base is loaded.
_IMPORTED_LATER = ("api.routes.chat", "api.routes.embeddings", "models.serving.predictor", "models.backbones.text")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m api.server", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default: GRAFT_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (default: GRAFT_PORT)")
    parser.add_argument("--grace", type=int, default=20, help="seconds that requests get to end at a stop")
    parser.add_argument(
        "--admin-key-on-stdin", action="store_true", help="read the operator's key from there: no environment shows it"
    )
    parser.add_argument(
        "--standby", action="store_true", help="import everything, then serve as soon as there is a line on stdin"
    )
    asked = parser.parse_args()
    line = _wait_for_line() if asked.standby or asked.admin_key_on_stdin else ""
    given = {name: getattr(asked, name) for name in ("host", "port") if getattr(asked, name) is not None}
    if asked.admin_key_on_stdin:
        given["admin_key"] = SecretStr(line.strip())
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SystemExit(f"The settings are wrong. {describe_faults(error)}") from None
    _allow_files(settings.max_connections + _OTHER_FILES)
    uvicorn.Server(configure(settings, grace_s=asked.grace)).run()


def _wait_for_line() -> str:
    """Import what the first answer needs, which is most of a start, then wait; exit if the other end is closed."""
    with contextlib.suppress(ValidationError):  # said below
        if Settings().role != "api":
            for module in _IMPORTED_LATER:
                importlib.import_module(module)
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    return line


def configure(settings: Settings, *, grace_s: int = 20) -> uvicorn.Config:
    """Return uvicorn's configuration for these settings."""
    app = create_app(settings)
    connections = Connections(settings)
    app.state.context.metrics.watch_connections(connections)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_over(connections),
        ws="none",  # no route speaks WebSocket; whoever asks for it would leave the bounds of the protocol
        lifespan="on",
        log_config=None,  # `create_app` has configured the logs
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=max(1, round(settings.idle_timeout_s)),
        timeout_graceful_shutdown=grace_s,
    )


def _allow_files(count: int) -> None:
    """Raise this process's limit of open files; exit if the system does not allow it: clients would wait unheard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(
            f"GRAFT_MAX_CONNECTIONS needs {count} open files, and this system allows {hard}. "
            "Lower the setting, or raise the limit (ulimit -n, LimitNOFILE=, ulimits: in compose)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


if __name__ == "__main__":
    main()
