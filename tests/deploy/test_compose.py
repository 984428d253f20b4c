"""docker-compose.yml with a `.env`: what reaches which container."""

from __future__ import annotations

import io
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dotenv
import pytest

from deploy import configuration
from models.settings import Settings
from tests.deploy import compose_config

_ROOT = Path(__file__).resolve().parents[2]
_FILE = _ROOT / "docker-compose.yml"
_GPU = _ROOT / "docker-compose.gpu.yml"
_EXAMPLE = (_ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
_SECRETS = {
    "GRAFT_ADMIN_KEY": "operator-0123456789abcdef0123456789abcdef",
    "POSTGRES_PASSWORD": "pgsecret",
    "VALKEY_PASSWORD": "vksecret",
    "S3_ACCESS_KEY_ID": "s3id",
    "S3_SECRET_ACCESS_KEY": "s3secret",
}
_PROCESSES = ("api", "predictor", "worker", "migrations")
_ONLY_OF = {
    "GRAFT_ADMIN_KEY": ("api",),
    "GRAFT_ROLE": ("api",),
    "GRAFT_THREADS": ("api", "predictor", "worker"),
    "GRAFT_WORKER_METRICS_PORT": ("worker",),
}


def _services(variables: dict[str, str], *files: Path) -> dict[str, Any]:
    services: dict[str, Any] = compose_config.resolve([_FILE, *files], variables)["services"]
    return services


def _uncommented_example() -> dict[str, str]:
    """The example with every line in use, and another value for every setting."""
    lines = [re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", line) for line in _EXAMPLE.splitlines()]
    values = {name: value or "" for name, value in dotenv.dotenv_values(stream=io.StringIO("\n".join(lines))).items()}
    mine = {name: f"of-dotenv-{name.lower()}" for name in values if name.startswith("GRAFT_")}
    return {**values, **mine, **_SECRETS}


def _settings_of(environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("GRAFT_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return Settings()


@pytest.mark.parametrize("name", configuration.WRITERS)
def test_documents_have_the_settings_as_they_are(name: str) -> None:
    text = (_ROOT / name).read_text(encoding="utf-8")
    assert configuration.WRITERS[name](text) == text, "run `make settings`"
    assert "GRAFT_RATE_LIMIT" in text


def test_every_setting_can_be_set_in_dotenv() -> None:
    variables = _uncommented_example()
    services = _services(variables)
    settings = {f"GRAFT_{name.upper()}" for name in Settings.model_fields} - configuration.OF_THE_IMAGE
    assert settings <= variables.keys()
    for name in settings:
        for service in _ONLY_OF.get(name, _PROCESSES):
            environment = services[service]["environment"]
            assert environment.get(name) == variables[name], f"{name} does not reach {service}"


def test_nobody_else_gets_the_operators_key() -> None:
    services = _services(_uncommented_example())
    holders = {name for name, service in services.items() if _SECRETS["GRAFT_ADMIN_KEY"] in str(service)}
    assert holders == {"api"}


@pytest.mark.parametrize("service", _PROCESSES)
def test_what_dotenv_leaves_out_has_its_default(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _services(_SECRETS)[service]["environment"]
    settings = _settings_of(environment, monkeypatch)
    named = {name.removeprefix("GRAFT_").lower() for name in configuration.NAMED_BY_HAND}
    for name, field in Settings.model_fields.items():
        if name not in named:
            assert getattr(settings, name) == field.default, name
    assert settings.database_url == "postgresql+psycopg://graft:pgsecret@postgres:5432/graft"
    assert settings.broker_url == "redis://:vksecret@valkey:6379/0"
    assert (settings.object_store, settings.s3_endpoint_url) == ("s3://graft", "http://storage:8333")


def test_services_of_ones_own_take_the_place_of_those_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "GRAFT_DATABASE_URL": "postgresql+psycopg://me@db.example.com/graft",
        "GRAFT_BROKER_URL": "rediss://valkey.example.com:6379/0",
        "GRAFT_OBJECT_STORE": "s3://mine/graft",
        "GRAFT_S3_ENDPOINT_URL": "",
    }
    services = _services({**_SECRETS, **own})
    settings = _settings_of(services["worker"]["environment"], monkeypatch)
    assert settings.database_url == own["GRAFT_DATABASE_URL"]
    assert settings.broker_url == own["GRAFT_BROKER_URL"]
    assert settings.object_store == own["GRAFT_OBJECT_STORE"]
    assert settings.s3_endpoint_url is None  # AWS
    # A service that is switched off is no condition of another.
    conditions = {
        name: entry
        for service in _PROCESSES
        for name, entry in services[service]["depends_on"].items()
        if name in ("postgres", "valkey", "storage")
    }
    assert conditions.keys() == {"postgres", "valkey", "storage"}
    assert all(entry["required"] is False for entry in conditions.values())


@pytest.mark.parametrize("missing", _SECRETS)
def test_nothing_starts_without_a_secret(missing: str) -> None:
    with pytest.raises(compose_config.MissingVariable, match=missing):
        _services({name: value for name, value in _SECRETS.items() if name != missing})
    with pytest.raises(compose_config.MissingVariable, match=missing):
        _services({**_SECRETS, missing: ""})


@pytest.mark.parametrize("files", [[], [_GPU]], ids=["cpu", "gpu"])
def test_every_container_has_limits_and_a_bounded_log(files: list[Path]) -> None:
    for name, service in _services(_SECRETS, *files).items():
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0, name
        assert re.fullmatch(r"\d+[mg]", limits["memory"]), name
        assert limits["pids"] > 0, name
        options = service["logging"]["options"]
        assert re.fullmatch(r"\d+m", options["max-size"]), name
        assert int(options["max-file"]) > 1, name


def test_gpus_are_added_to_the_limits() -> None:
    for name in ("api", "predictor", "worker"):
        service = _services({**_SECRETS, "GRAFT_GPUS": "2"}, _GPU)[name]
        assert service["environment"]["GRAFT_DEVICE"] == "cuda"
        assert service["environment"]["GRAFT_RATE_LIMIT"] == ""
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["count"] == "2"


def test_weights_are_mounted_where_they_are_read() -> None:
    services = _services({**_SECRETS, "BASE_MODELS_DIR": "/srv/models"})
    for name in ("api", "predictor", "worker"):
        mounts = [mount for mount in services[name]["volumes"] if isinstance(mount, dict)]
        assert mounts == [{"type": "bind", "source": "/srv/models", "target": "/models", "read_only": True}]
    default = next(mount for mount in _services(_SECRETS)["api"]["volumes"] if isinstance(mount, dict))
    assert (_ROOT / default["source"] / "base-models.json").is_file()


def test_nothing_serves_before_the_schema_is_there() -> None:
    services = _services(_SECRETS)
    assert services["migrations"]["command"][:2] == ["graft", "migrate"]
    for name in ("api", "predictor", "worker"):
        assert services[name]["depends_on"]["migrations"] == {"condition": "service_completed_successfully"}


def test_every_service_that_stays_has_a_health_check() -> None:
    dockerfile = (_ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name, service in _services(_SECRETS).items():
        if service.get("restart") == "no":
            continue
        target = service.get("build", {}).get("target")
        if target:
            stage = dockerfile.partition(f"FROM runtime AS {target}\n")[2].partition("\nFROM ")[0]
            assert "HEALTHCHECK" in stage, name
        else:
            assert service["healthcheck"]["test"], name


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_proxys_health_check_passes_and_fails() -> None:
    command = _services(_SECRETS)["proxy"]["healthcheck"]["test"]
    assert command[0] == "CMD"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NotFound)
    here = [word.replace("/8080", f"/{server.server_port}") for word in command[1:]]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert subprocess.run(here, check=False, timeout=30).returncode == 0
    finally:
        server.shutdown()
        server.server_close()
    assert subprocess.run(here, check=False, timeout=30, stderr=subprocess.DEVNULL).returncode != 0


def test_substitution_is_that_of_compose() -> None:
    variables = {"SET": "value", "EMPTY": ""}
    for text, expected in {
        "${SET}": "value",
        "$SET!": "value!",
        "${EMPTY:-other}": "other",
        "${EMPTY-other}": "",
        "${NONE-other}": "other",
        "${NONE:-a${SET:-b}c}": "avaluec",
        "${SET:+there}": "there",
        "$$SET": "$SET",
    }.items():
        assert compose_config.substitute(text, variables) == expected
