"""Containers and Kubernetes: valid by their schemas, and in agreement with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.records.database import Database
from models.records.transitions import UNFINISHED
from models.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
_COMPOSE = ("docker-compose.yml", "docker-compose.gpu.yml")
_MANIFESTS = sorted(
    path for path in (_ROOT / "deploy" / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
)


def _objects() -> list[dict[str, Any]]:
    return [item for path in _MANIFESTS for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def _known_variables() -> set[str]:
    return {f"GRAFT_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", _COMPOSE)
def test_compose_files_fit_the_specification(name: str) -> None:
    command = [_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", name]
    subprocess.run(command, cwd=_ROOT, check=True)


def test_the_dockerfile_is_clean() -> None:
    subprocess.run([_tool("hadolint"), "Dockerfile"], cwd=_ROOT, check=True)


@pytest.mark.parametrize("path", _MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_kubernetes(path: Path) -> None:
    subprocess.run([_tool("kubernetes-validate"), "--strict", "--no-warn", str(path)], cwd=_ROOT, check=True)


def test_compose_has_no_working_default_secret() -> None:
    text = (_ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in ("GRAFT_ADMIN_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
        uses = re.findall(r"\$\{" + name + r"\b([^}]*)\}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses), name
        assert f"{name}=" in (_ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")


def test_compose_sets_only_variables_that_exist() -> None:
    for name in _COMPOSE:
        services = yaml.safe_load((_ROOT / name).read_text(encoding="utf-8"))["services"]
        for service in services.values():
            used = {variable for variable in service.get("environment", {}) if variable.startswith("GRAFT_")}
            assert used <= _known_variables()


def test_kubernetes_sets_only_variables_that_exist() -> None:
    for item in _objects():
        names = set(item.get("data") or {}) | set(item.get("stringData") or {})
        containers = item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        names |= {entry["name"] for container in containers for entry in container.get("env", [])}
        assert {name for name in names if name.startswith("GRAFT_")} <= _known_variables()


def test_pods_are_restricted() -> None:
    pods = [item["spec"]["template"]["spec"] for item in _objects() if item["kind"] in ("Deployment", "Job")]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        # Service links would add variables like GRAFT_API_PORT=tcp://… to the settings' own.
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert {"requests", "limits"} <= set(container["resources"])


def test_only_the_api_gets_the_operators_key() -> None:
    holders = {
        item["metadata"]["name"]
        for item in _objects()
        if item["kind"] in ("Deployment", "Job")
        for container in item["spec"]["template"]["spec"]["containers"]
        for source in container.get("envFrom", [])
        if source.get("secretRef", {}).get("name") == "graft-operator"
    }
    assert holders == {"graft-api"}


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((_ROOT / "deploy/kubernetes/kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert set(listed) == {path.name for path in _MANIFESTS} - {"secret.example.yaml"}


def test_kedas_query_runs_on_the_schema(database: Database) -> None:
    scaled = next(item for item in _objects() if item["kind"] == "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    with database.reading() as session:
        assert session.connection().exec_driver_sql(query).scalar() == 0
    states = set(re.findall(r"'(\w+)'", query))
    assert states == UNFINISHED - {"paused"}, "a worker is wanted for every job that waits for one or has one"
