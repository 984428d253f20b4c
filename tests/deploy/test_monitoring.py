"""Dashboard and alerts: they load, they fire, and every metric that they or the runbook name is there to be scraped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from models.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
_MONITORING = _ROOT / "deploy" / "monitoring"
_RUNBOOK = (_ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
_DASHBOARD = json.loads((_MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
_ALERTS = yaml.safe_load((_MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
_NAME = re.compile(r"\b((?:graft|process)_[a-z_]+[a-z])\b(?!-)")
_GRAFANA = ("$__rate_interval", "5m"), ("$instance", ".*"), ("$datasource", "")


def _rules() -> list[dict]:
    return [rule for group in _ALERTS["groups"] for rule in group["rules"]]


def _panels() -> list[dict]:
    return [panel for panel in _DASHBOARD["panels"] if panel["type"] != "row"]


def _expressions() -> dict[str, str]:
    """Every query by where it is, with Grafana's variables replaced."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in _rules()}
    for panel in _panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in _GRAFANA:
                expression = expression.replace(variable, value)
            found[f"panel {panel['title']} {target['refId']}"] = expression
    return found


def _metrics(text: str) -> set[str]:
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for family in families for sample in family.samples}
    return samples | {family.name for family in families if family.type == "histogram" and family.samples}


def _promtool() -> str:
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not installed")
    return found


def test_every_query_is_promql() -> None:
    for place, query in _expressions().items():
        try:
            promql_parser.parse(query)
        except ValueError as error:
            pytest.fail(f"{place}: {error}")


def test_promtool_takes_the_alerts() -> None:
    subprocess.run([_promtool(), "check", "rules", str(_MONITORING / "alerts.yaml")], check=True)


def test_the_alerts_fire_when_they_should() -> None:
    subprocess.run([_promtool(), "test", "rules", str(_MONITORING / "alerts_test.yaml")], check=True)


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(_expressions().values())]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run([_promtool(), "check", "rules", str(path)], check=True)


def test_every_alert_has_a_case_that_fires_it() -> None:
    cases = yaml.safe_load((_MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = re.findall(r'alertname="(\w+)"', yaml.safe_dump(cases))
    assert set(fired) == {rule["alert"] for rule in _rules()}


def test_kubernetes_has_the_same_alerts() -> None:
    path = _ROOT / "deploy/kubernetes/components/monitoring/alerts.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["spec"] == _ALERTS


def test_every_alert_leads_into_the_runbook() -> None:
    headings = set(re.findall(r"^#+ (.+)$", _RUNBOOK, re.MULTILINE))
    for rule in _rules():
        document, _, sections = rule["annotations"]["runbook"].partition(": ")
        assert document == "deploy/runbook.md"
        for section in sections.split(", "):
            assert section in headings, f"{rule['alert']} leads to '{section}'"


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= _DASHBOARD.keys()
    ids = [panel["id"] for panel in _DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in _panels()]
    assert len(titles) == len(set(titles))
    for panel in _panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.fixture(scope="module")
def scraped() -> Iterator[dict[str, str]]:
    """What the API with its predictor and two workers say of themselves, in an embedded deployment."""
    folder = Path(tempfile.mkdtemp(prefix="graft-", dir="/tmp"))
    port, worker_port = _free_ports(1), _free_ports(2)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}
    env |= {"HF_HUB_OFFLINE": "1", "GRAFT_THREADS": "1", "GRAFT_WORKER_METRICS_PORT": str(worker_port)}
    command = [
        sys.executable,
        "-m",
        "deploy.cli.main",
        "up",
        "--data",
        str(folder),
        "--port",
        str(port),
        "--workers",
        "2",
    ]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=_ROOT, stdout=output, stderr=output)
    try:
        ports = {"api": port, "worker": worker_port, "second worker": worker_port + 1}
        urls = {name: f"http://127.0.0.1:{number}" for name, number in ports.items()}
        deadline = time.monotonic() + 240
        while not (_answers(f"{urls['api']}/readyz") and all(_answers(f"{url}/metrics") for url in urls.values())):
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(0.2)
        httpx.post(f"{urls['api']}/v1/models/none/predict", json={"input": "x"}, trust_env=False)
        yield {name: httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text for name, url in urls.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with contextlib.ExitStack() as stack:
            first = 0
            try:
                for number in range(count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", first and first + number))
                    first = first or probe.getsockname()[1]
            except OSError:
                continue
            return first


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_every_metric_that_is_named_exists(scraped: dict[str, str]) -> None:
    there = {name: _metrics(text) for name, text in scraped.items()}
    for name in ("api", "worker"):
        assert {"process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"} <= there[name]
        assert {"graft_build_info", "graft_data_free_bytes"} <= there[name]
    settings = {f"graft_{field}" for field in Settings.model_fields}
    named = {place: set(_NAME.findall(query)) for place, query in _expressions().items()}
    named["runbook"] = set(_NAME.findall(_RUNBOOK)) - settings
    assert sum(map(len, named.values())) > 50
    missing = {place: names - there["api"] - there["worker"] for place, names in named.items()}
    assert not {place: names for place, names in missing.items() if names}


@pytest.mark.slow
def test_every_route_that_a_query_names_exists(scraped: dict[str, str]) -> None:
    for place, query in _expressions().items():
        for route in re.findall(r'route="([^"]+)"', query):
            assert f'route="{route}"' in scraped["api"], place


@pytest.mark.slow
def test_names_are_conventional(scraped: dict[str, str]) -> None:
    for text in scraped.values():
        for family in text_string_to_metric_families(text):
            if not family.name.startswith("graft_"):
                continue
            assert family.documentation, family.name
            for unit in ("milliseconds", "minutes", "kilobytes", "megabytes", "percent"):
                assert unit not in family.name
            counters = [sample for sample in family.samples if sample.name.endswith("_total")]
            assert bool(counters) == (family.type == "counter"), family.name
