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
_KUBERNETES = _ROOT / "deploy" / "kubernetes"
_PATCHES = set((_KUBERNETES / "overlays").rglob("*.yaml"))
_MANIFESTS = sorted(path for path in set(_KUBERNETES.rglob("*.yaml")) - _PATCHES if path.name != "kustomization.yaml")
_OVERLAYS = ("cpu", "gpu")
# Groups whose schemas come with kubernetes-validate; the others' are checked by deploy/kubernetes/validate.
_CORE = {"v1", "apps/v1", "autoscaling/v2", "batch/v1", "networking.k8s.io/v1", "policy/v1"}


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


def _is_core(path: Path) -> bool:
    return all(item["apiVersion"] in _CORE for item in yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_manifests_fit_kubernetes() -> None:
    paths = [str(path) for path in _MANIFESTS if _is_core(path)]
    assert len(paths) > 5
    subprocess.run([_tool("kubernetes-validate"), "--strict", "--no-warn", *paths], cwd=_ROOT, check=True)


def _built(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply --kustomize` would apply; the test is skipped without kubectl."""
    command = [_tool("kubectl"), "kustomize", str(_KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in ("Deployment", "Job")
    }


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_overlays_fit_kubernetes(overlay: str, tmp_path: Path) -> None:
    built = tmp_path / "built.yaml"
    built.write_text(yaml.safe_dump_all(item for item in _built(overlay) if item["apiVersion"] in _CORE))
    subprocess.run([_tool("kubernetes-validate"), "--strict", "--no-warn", str(built)], cwd=_ROOT, check=True)


def test_only_the_overlay_for_gpus_needs_gpus() -> None:
    assert "nvidia.com/gpu" not in yaml.safe_dump_all(_built("cpu"))
    pods = _pods(_built("gpu"))
    for name in ("graft-worker", "graft-predictor"):
        limits = pods[name]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"
        assert limits["memory"]  # the patch adds, it does not replace
    assert "nvidia.com/gpu" not in pods["graft-api"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_what_is_applied_can_be_applied_again(overlay: str) -> None:
    # A Job's pod cannot be changed: the second release could not be applied over the first one.
    assert not [item for item in _built(overlay) if item["kind"] == "Job"]


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_every_pod_migrates_before_it_serves(overlay: str) -> None:
    pods = _pods(_built(overlay))
    assert pods.keys() == {"graft-api", "graft-predictor", "graft-worker"}
    for pod in pods.values():
        (first,) = pod["initContainers"]
        assert first["command"] == ["graft", "migrate"]
        assert first["envFrom"] == pod["containers"][0]["envFrom"][:2]
        assert first["image"] == pod["containers"][0]["image"]
        assert first["image"].startswith("registry.example.com/")


def test_an_autoscaler_and_a_manifest_do_not_argue_about_replicas() -> None:
    objects = _built("cpu")
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in objects if "scaleTargetRef" in item.get("spec", {})}
    assert scaled == {"graft-api", "graft-predictor", "graft-worker"}
    assert not [item for item in objects if item["kind"] == "Deployment" and "replicas" in item["spec"]]


def test_every_selector_selects_something() -> None:
    objects = _built("cpu")
    pods = [item["spec"]["template"]["metadata"]["labels"] for item in objects if item["kind"] == "Deployment"]
    services = [item["metadata"]["labels"] for item in objects if item["kind"] == "Service"]
    found = {"NetworkPolicy": 0, "PodDisruptionBudget": 0, "Service": 0, "ServiceMonitor": 0, "PodMonitor": 0}
    for item in objects:
        if item["kind"] not in found:
            continue
        spec = item["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        labels = selector.get("matchLabels", selector)
        among = services if item["kind"] == "ServiceMonitor" else pods
        matching = [one for one in among if labels.items() <= one.items()]
        for expression in selector.get("matchExpressions", []):
            matching = [one for one in matching if one[expression["key"]] in expression["values"]]
        expected = 2 if item["kind"] == "ServiceMonitor" else 1
        assert len(matching) == expected, item["metadata"]["name"]
        found[item["kind"]] += 1
    assert all(found.values()), found


def test_prometheus_sends_the_token_that_the_processes_ask_for() -> None:
    """Before, whoever asked for the token in a cluster had no scrape any more."""
    objects = _built("cpu")
    monitor = next(item for item in objects if item["kind"] == "ServiceMonitor")
    sent = [endpoint["authorization"]["credentials"] for endpoint in monitor["spec"]["endpoints"]]
    assert sent == [{"name": "graft-metrics", "key": "GRAFT_METRICS_TOKEN"}]
    asking = {
        name
        for name, pod in _pods(objects).items()
        if {"secretRef": {"name": "graft-metrics"}} in pod["containers"][0]["envFrom"]
    }
    assert asking == {"graft-api", "graft-predictor"}
    secrets = [item for item in _objects() if item["kind"] == "Secret" and item["metadata"]["name"] == "graft-metrics"]
    assert list(secrets[0]["stringData"]) == ["GRAFT_METRICS_TOKEN"]


def test_predictions_go_to_one_predictor_by_model_and_key() -> None:
    objects = _built("cpu")
    routes = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "HTTPRoute"}
    policies = {
        target["name"]: item["spec"]
        for item in objects
        if item["kind"] == "BackendTrafficPolicy"
        for target in item["spec"]["targetRefs"]
    }
    assert policies.keys() == routes.keys() == {"graft", "graft-predictions"}
    (rule,) = routes["graft-predictions"]["rules"]
    assert [backend["name"] for backend in rule["backendRefs"]] == ["graft-predictor"]
    expressions = [match["path"] for match in rule["matches"]]
    assert re.fullmatch(expressions[0]["value"], "/v1/models/ft:minilm:acme:tickets@3/predict")
    hashed = policies["graft-predictions"]["loadBalancer"]
    assert hashed["type"] == "ConsistentHash"
    assert {header["name"] for header in hashed["consistentHash"]["headers"]} == {":path", "authorization"}
    assert "loadBalancer" not in policies["graft"]
    services = {item["metadata"]["name"] for item in objects if item["kind"] == "Service"}
    backends = {
        backend["name"] for spec in routes.values() for rule in spec["rules"] for backend in rule.get("backendRefs", [])
    }
    assert backends <= services


def test_base_models_can_be_mounted_in_every_pod(tmp_path: Path) -> None:
    component = _KUBERNETES / "components" / "base-models"
    overlay = tmp_path / "overlay"
    shutil.copytree(_KUBERNETES, tmp_path / "kubernetes")
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        f"resources: [../kubernetes/base]\ncomponents: [../kubernetes/components/{component.name}]\n"
    )
    done = subprocess.run([_tool("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    for pod in _pods(list(yaml.safe_load_all(done.stdout))).values():
        container = pod["containers"][0]
        assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
        assert {"name": "GRAFT_BASE_MODELS_FILE", "value": "/models/base-models.json"} in container["env"]


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
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        containers = pod.get("initContainers", []) + pod.get("containers", [])
        names |= {entry["name"] for container in containers for entry in container.get("env", [])}
        assert {name for name in names if name.startswith("GRAFT_")} <= _known_variables()


def test_pods_are_restricted() -> None:
    pods = _pods(_objects())
    assert len(pods) == 3
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        # Service links would add variables like GRAFT_API_PORT=tcp://… to the settings' own.
        assert pod["enableServiceLinks"] is False
        for container in pod["initContainers"] + pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert {"requests", "limits"} <= set(container["resources"])


def test_only_the_api_gets_the_operators_key() -> None:
    holders = {
        item["metadata"]["name"]
        for item in _objects()
        if item["kind"] in ("Deployment", "Job")
        for containers in ("initContainers", "containers")
        for container in item["spec"]["template"]["spec"][containers]
        for source in container.get("envFrom", [])
        if source.get("secretRef", {}).get("name") == "graft-operator"
    }
    assert holders == {"graft-api"}


def test_every_manifest_is_applied() -> None:
    for folder in {path.parent for path in _MANIFESTS}:
        if folder != _KUBERNETES:
            listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
            assert set(listed) == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert {path.name for path in _MANIFESTS if path.parent == _KUBERNETES} == {"secret.example.yaml"}


def test_kedas_query_runs_on_the_schema(database: Database) -> None:
    scaled = next(item for item in _objects() if item["kind"] == "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    with database.reading() as session:
        assert session.connection().exec_driver_sql(query).scalar() == 0
    states = set(re.findall(r"'(\w+)'", query))
    assert states == UNFINISHED - {"paused"}, "a worker is wanted for every job that waits for one or has one"
