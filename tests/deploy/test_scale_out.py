"""One API and two predictors behind a proxy: one service to everybody outside."""

from __future__ import annotations

import io
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest

from deploy.cli.demo import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PREDICT = "/v1/models/{model}/predict"
TEXTS = ["Where is my parcel?", "I want my money back", "Please cancel my subscription"]
# Most of them do not exist; a 404 comes from the predictor whose model it would be.
NAMES = ["tickets", *(f"model-{number}" for number in range(24))]
PROPAGATION_S = 5.0


@dataclass(frozen=True)
class Customer:
    """A customer with a key and a model `tickets` of its own."""

    id: str
    name: str
    key: str


@pytest.fixture(scope="module")
def customers(scaled) -> dict[str, Customer]:
    """Two customers; acme's model has two versions."""
    operator = scaled.operator(scaled.api.url)
    made = {}
    for name in ("acme", "globex"):
        customer_id = _ok(operator.post("/v1/customers", json={"name": name}))["id"]
        key = _ok(operator.post(f"/v1/customers/{customer_id}/keys", json={"name": "tests"}))["key"]
        made[name] = Customer(customer_id, name, key)
    for name, seed in (("acme", 1), ("globex", 2), ("acme", 3)):
        _train(scaled.client(scaled.api.url, made[name].key), SAMPLES / "tickets.csv", seed)
    return made


def _train(client: httpx.Client, path: Path, seed: int) -> None:
    with path.open("rb") as file:
        form = {"suffix": "tickets", "strategy": "head", "seed": str(seed), "promote": "always"}
        job = _ok(client.post("/v1/fine_tuning/jobs", data=form, files={"file": (path.name, file)}))
    deadline = time.monotonic() + 300
    while job["status"] != "succeeded":
        assert job["status"] in ("queued", "running"), job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
        job = _ok(client.get(f"/v1/fine_tuning/jobs/{job['id']}"))


def test_every_door_gives_the_same_answers(scaled, customers, proxy, wait_until):
    for customer in customers.values():
        doors = [scaled.client(url, customer.key) for url in (*_urls(scaled), proxy.url)]
        # The last version may have gone live just now; until a predictor hears of it, it answers with the one before.
        newest = max(version["version"] for version in _ok(doors[-1].get("/v1/models/tickets/versions"))["data"])
        wait_until(partial(_all_answer, doors, newest), PROPAGATION_S, f"for version {newest}")
        answers = [_ok(door.post("/v1/models/tickets/predict", json={"inputs": TEXTS, "top_k": 3})) for door in doors]
        assert {answer["version"] for answer in answers} == {newest}
        for answer in answers[1:]:
            for one, other in zip(answers[0]["predictions"], answer["predictions"], strict=True):
                assert one["label"] == other["label"]
                assert other["score"] == pytest.approx(one["score"], abs=1e-5)


def test_each_model_has_a_predictor_of_its_own(scaled, customers, proxy):
    places = {}
    for customer, name in itertools.product(customers.values(), NAMES):
        client = scaled.client(proxy.url, customer.key)
        before = _served(scaled)
        # A pinned version and the full name are the same model.
        for reference in (name, f"{name}@1", f"ft:minilm:{customer.name}:{name}"):
            answer = client.post(f"/v1/models/{reference}/predict", json={"input": "x"})
            assert answer.status_code == (200 if name == "tickets" else 404), answer.text
        served = [after - earlier for after, earlier in zip(_served(scaled), before, strict=True)]
        assert sorted(served) == [0, 3], f"{customer.name}'s {name} went to {served}"
        places[customer.name, name] = served.index(3)
    shares = Counter(places.values())
    _say(f"{proxy.kind}: of {len(places)} models the predictors have {shares[0]} and {shares[1]}")
    assert set(shares) == {0, 1}
    # The same short name of another customer is another model.
    assert any(places["acme", name] != places["globex", name] for name in NAMES)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_predictor_that_goes_takes_no_request_along(scaled, customers, how, wait_until):
    proxies = [scaled.proxy(kind) for kind in ("nginx", "envoy")]
    traffic = [_Traffic(scaled.client(proxy.url, customers["acme"].key)) for proxy in proxies]
    leaving = scaled.predictors[1]
    try:
        for stream in traffic:
            stream.start()
        wait_until(lambda: all(stream.rounds >= 2 for stream in traffic), 120, "for traffic")
        leaving.kill() if how is signal.SIGKILL else leaving.terminate()
        rounds = [stream.rounds for stream in traffic]
        wait_until(lambda: all(s.rounds >= r + 4 for s, r in zip(traffic, rounds, strict=True)), 120, "for more")
        returned = scaled.start_again(1)
        # Its share comes back to it.
        wait_until(lambda: returned.served(PREDICT) >= 20, 60, "for its share to come back")
    finally:
        for stream in traffic:
            stream.stop()
    for proxy, stream in zip(proxies, traffic, strict=True):
        _say(f"{proxy.kind}, predictor {how.name}: {dict(stream.statuses)}, slowest {stream.slowest_s * 1e3:.0f} ms")
        assert set(stream.statuses) == {200, 404}, stream.statuses


def test_promotion_reaches_every_predictor_within_five_seconds(scaled, customers, proxy):
    acme = scaled.client(proxy.url, customers["acme"].key)
    doors = {url: scaled.client(url, customers["acme"].key) for url in (*_urls(scaled), proxy.url)}
    versions = [entry["version"] for entry in _ok(acme.get("/v1/models/tickets/versions"))["data"]]
    live = _version(acme)
    other = next(number for number in versions if number != live)
    for before, number in ((live, other), (other, live)):
        assert {_version(door) for door in doors.values()} == {before}  # every cache is warm with it
        moved_at = time.monotonic()
        _ok(acme.put("/v1/models/tickets/aliases/live", json={"version": number}))
        seen = _first_seen(doors, lambda door, wanted=number: _version(door) == wanted, moved_at)
        _say(f"{proxy.kind}: version {number} answered after {_shown(seen)}")


def test_a_revoked_key_is_dead_everywhere_within_five_seconds(scaled, customers, proxy):
    operator = scaled.operator(proxy.url)
    keys = f"/v1/customers/{customers['acme'].id}/keys"
    issued = _ok(operator.post(keys, json={"name": "to be revoked"}))

    def ask(door: httpx.Client) -> int:
        if str(door.base_url).rstrip("/") == scaled.api.url:
            return door.get("/v1/models").status_code
        return door.post("/v1/models/tickets/predict", json={"input": "x"}).status_code

    doors = {url: scaled.client(url, issued["key"]) for url in (*_urls(scaled), scaled.api.url, proxy.url)}
    assert {ask(door) for door in doors.values()} == {200}
    revoked_at = time.monotonic()
    _ok(operator.delete(f"{keys}/{issued['id']}"))
    seen = _first_seen(doors, lambda door: ask(door) == 401, revoked_at)
    _say(f"{proxy.kind}: the key was dead after {_shown(seen)}")


def test_the_openai_sdk_works_through_the_proxy(scaled, customers, proxy):
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=customers["acme"].key, max_retries=0)
    messages = [{"role": "user", "content": TEXTS[0]}]
    chat = client.chat.completions.create(model="tickets", messages=messages)
    stream = client.chat.completions.create(model="tickets", messages=messages, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == chat.choices[0].message.content
    assert chat._request_id

    vectors = [entry.embedding for entry in client.embeddings.create(model="minilm", input=TEXTS).data]
    assert [len(vector) for vector in vectors] == [384] * len(TEXTS)
    assert {model.id for model in client.models.list()} >= {"minilm", "ft:minilm:acme:tickets"}
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="unknown", messages=messages)
    assert error.value.code == "not_found"


def test_events_arrive_while_the_job_runs(scaled, customers, proxy):
    acme = scaled.client(proxy.url, customers["acme"].key)
    rows = [f"the {word} number {number},{word}\n" for number in range(5000) for word in ("red", "blue")]
    text = "text,label\n" + "".join(rows)
    form = {"suffix": f"long-{proxy.kind}", "strategy": "head"}
    job = _ok(acme.post("/v1/fine_tuning/jobs", data=form, files={"file": ("long.csv", text)}))
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    kinds = []
    with acme.stream("GET", f"{path}/events", params={"stream": "true"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event:"):
                # The job ends because its first event was seen: a proxy that kept events back would wait for ever.
                if not kinds:
                    _ok(acme.post(f"{path}/cancel"))
                kinds.append(line.partition(":")[2].strip())
    assert kinds[-1] == "done"
    assert _ok(acme.get(path))["status"] == "cancelled"


def test_a_large_file_passes_as_it_comes(scaled, customers, proxy, tmp_path):
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        for row in range(5_300):
            file.write(f"{row} {'the parcel did not arrive ' * 390},{'late' if row % 2 else 'lost'}\n")
    assert path.stat().st_size > 50 * 2**20
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=customers["acme"].key, max_retries=0, timeout=300)
    began_at = time.monotonic()
    with _Watched(path, scaled.folder / "cache" / "uploads") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
        _say(f"{proxy.kind}: {file.arrived / 2**20:.0f} MiB had arrived when {file.sent / 2**20:.0f} were sent")
    _say(f"{proxy.kind}: {uploaded.bytes / 2**20:.0f} MiB uploaded and checked in {time.monotonic() - began_at:.1f} s")
    assert uploaded.bytes == path.stat().st_size
    client.files.delete(uploaded.id)


def test_no_proxy_writes_a_key_down(scaled, customers, proxy):
    assert proxy.logs
    assert not [name for name, customer in customers.items() if customer.key in proxy.logs]


class _Traffic:
    """One client that asks for every model in turn, and goes on."""

    def __init__(self, client: httpx.Client) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.rounds = 0
        self.slowest_s = 0.0
        self._client = client
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for name in NAMES:
                began_at = time.monotonic()
                try:
                    answer = self._client.post(f"/v1/models/{name}/predict", json={"input": "x"})
                    status: int | str = answer.status_code if answer.status_code < 500 else answer.text
                except httpx.HTTPError as error:
                    status = repr(error)
                self.statuses[status] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_at)
            self.rounds += 1


class _Watched(io.FileIO):
    """A file that waits in its middle until some of it has come out at the other end."""

    def __init__(self, path: Path, arrivals: Path) -> None:
        super().__init__(path)
        self.sent = 0
        self.arrived = 0
        self._size = path.stat().st_size
        self._arrivals = arrivals

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > self._size // 2 and not self.arrived:
            self.sent = self.tell()
            deadline = time.monotonic() + 30
            while self._there() < self.sent // 2:
                assert time.monotonic() < deadline, f"{self.sent} bytes were sent, {self._there()} came"
                time.sleep(0.02)
            self.arrived = self._there()
        return super().read(size)

    def _there(self) -> int:
        return sum(path.stat().st_size for path in self._arrivals.glob("*/*"))


def _first_seen(
    doors: dict[str, httpx.Client], holds: Callable[[httpx.Client], bool], since: float
) -> dict[str, float]:
    """After how many seconds a condition held at each door; fails at the deadline."""
    seen: dict[str, float] = {}
    while len(seen) < len(doors):
        for name in doors.keys() - seen.keys():
            if holds(doors[name]):
                seen[name] = time.monotonic() - since
        assert time.monotonic() < since + PROPAGATION_S, f"seen only by {seen}"
        time.sleep(0.02)
    return seen


def _version(door: httpx.Client) -> int:
    return int(_ok(door.post("/v1/models/tickets/predict", json={"input": "x"}))["version"])


def _all_answer(doors: list[httpx.Client], version: int) -> bool:
    return all(_version(door) == version for door in doors)


def _say(line: str) -> None:
    print(line)  # noqa: T201  # what was measured, for `pytest -s`


def _shown(seen: dict[str, float]) -> str:
    return ", ".join(f"{seconds:.2f} s" for seconds in sorted(seen.values()))


def _urls(scaled) -> list[str]:
    return [predictor.url for predictor in scaled.predictors]


def _served(scaled) -> list[float]:
    return [predictor.served(PREDICT) for predictor in scaled.predictors]


def _ok(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return response.json()
