"""The proxies' configurations alone: valid, and what a proxy says by itself has the form of every other error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest

_PROXY = Path(__file__).resolve().parents[2] / "deploy" / "proxy"
_SECRET = "gr-a-secret-that-nobody-may-write-down"


def test_nginx_accepts_its_configuration(tmp_path, tool):
    command = [tool("nginx"), "-t", "-e", "stderr", "-p", f"{tmp_path}/", "-c", str(_PROXY / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_envoy_accepts_its_configuration(tool):
    command = [tool("envoy"), "--mode", "validate", "--log-level", "warning", "-c", str(_PROXY / "envoy.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


@pytest.mark.parametrize("path", ["/v1/models/tickets/predict", "/v1/chat/completions", "/v1/files"])
def test_nobody_behind_the_proxy_is_an_error_like_all_others(stranded, path):
    headers = {"authorization": f"Bearer {_SECRET}", "x-request-id": "req_of-a-client"}
    answer = httpx.post(f"{stranded.url}{path}", json={"input": "x"}, headers=headers, trust_env=False)
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-request-id"] == "req_of-a-client"
    assert answer.json()["error"]["code"] == "unreachable"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert _SECRET not in stranded.logs


def test_metrics_stay_inside(stranded):
    answer = httpx.get(f"{stranded.url}/metrics", trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")


def test_no_log_format_names_the_key():
    for path in _PROXY.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            code = line.partition("#")[0]
            assert not re.search(r"log.*authorization|%REQ\(authorization", code, re.IGNORECASE), f"{path.name}: {line}"
