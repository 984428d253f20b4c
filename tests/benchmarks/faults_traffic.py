"""Two customers who have models trained all the while, and ask them, whatever happens to the processes."""

from __future__ import annotations

import collections
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.benchmarks.faults_world import World
from tests.e2e.conftest import write_tickets

MODELS = 5  # of each customer, trained again and again
_WAITING = 3  # jobs of one customer that have not ended
_TEXT = "my parcel was lost by the courier"


@dataclass
class Answers:
    """What predictions got: moment, and whether there was an answer."""

    asked: list[tuple[float, bool]] = field(default_factory=list)

    def between(self, spans: list[tuple[float, float]]) -> tuple[int, int]:
        """Return how many were answered, and how many were asked."""
        told = [answered for at, answered in self.asked if any(begin <= at <= end for begin, end in spans)]
        return sum(told), len(told)


class Customer:
    """One customer: posts its jobs at a pace that keeps workers busy, and repeats a POST until it was answered."""

    def __init__(self, world: World, name: str, jobs: int, seed: int, folder: Path) -> None:
        self.name = name
        self.accepted: list[str] = []
        self.refusals: collections.Counter[str] = collections.Counter()
        self.answers = Answers()
        self._world = world
        self._jobs = jobs
        self._rng = random.Random(f"{seed}/{name}")
        self._folder = folder
        self._done = threading.Event()
        self.key = world.graft.new_customer(name)
        self.id = str(world.rows("SELECT id FROM customers WHERE name = :name", name=name)[0][0])
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._post_all, self._predict)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def has_posted_all(self) -> bool:
        return not self._threads[0].is_alive()

    def stop(self) -> None:
        """Ask no more."""
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def unfinished(self) -> int:
        query = "SELECT count(*) FROM jobs WHERE customer_id = :id AND status IN ('queued', 'running')"
        found = self._world.rows(query, id=self.id)
        return int(found[0][0]) if found else _WAITING

    def _post_all(self) -> None:
        with self._client(30) as client:
            for number in range(self._jobs):
                rows = self._rng.choice([40, 80, 160, 320])
                path = write_tickets(self._folder / f"{self.name}-{number}.csv", rows, seed=self._rng.randrange(10**6))
                while self.unfinished() >= _WAITING and not self._done.wait(0.05):
                    pass
                while not self._done.is_set() and not self._post(client, path, number):
                    self._done.wait(0.25)

    def _post(self, client: httpx.Client, path: Path, number: int) -> bool:
        # The key makes one job of as many requests as it takes.
        headers = {"Idempotency-Key": f"{self.name}-{number}"}
        form = {"suffix": f"model-{number % MODELS}", "strategy": "head", "seed": "7"}
        files = {"file": (path.name, path.read_bytes())}
        try:
            answer = client.post("/v1/fine_tuning/jobs", headers=headers, data=form, files=files)
        except httpx.TransportError as error:
            self.refusals[type(error).__name__] += 1
            return False
        if answer.is_success:
            self.accepted.append(answer.json()["id"])
            return True
        self.refusals[str(answer.status_code)] += 1
        if answer.status_code < 500 and answer.status_code not in (409, 429):
            raise RuntimeError(f"a sound request was refused: {answer.status_code} {answer.text[:300]}")
        return False

    def _predict(self) -> None:
        with self._client(5) as client:
            while not self._done.wait(0.2):
                at = time.time()
                try:
                    answer = client.post("/v1/models/model-0/predict", json={"inputs": [_TEXT]})
                except httpx.TransportError:
                    self.answers.asked.append((at, False))
                    continue
                if answer.status_code != 404:  # not trained yet
                    self.answers.asked.append((at, answer.is_success))

    def _client(self, timeout_s: float) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self._world.graft.url, headers=headers, timeout=timeout_s, trust_env=False)
